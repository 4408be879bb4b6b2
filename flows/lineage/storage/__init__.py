"""MLflow and the files beside it: connection, state, runs, signatures."""
