"""The service on a Prefect server: deployments, automations, and `skillstack doctor`."""
