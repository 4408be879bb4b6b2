"""Log lines for machines."""
