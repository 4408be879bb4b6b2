"""The story of a round, its command line and its lineage: the only importer of Prefect and MLflow."""
