"""The gate: a pure function from reports and policy to a verdict."""
