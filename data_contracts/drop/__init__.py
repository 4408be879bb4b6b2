"""One drop on its way from the file to clean, held-out and quarantined rows."""
