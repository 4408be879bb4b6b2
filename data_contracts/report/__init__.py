"""The report of a validated drop."""
