"""The round as an operated service: what goes onto a Prefect server, what a round asks of one, and whether everything it needs is well."""
