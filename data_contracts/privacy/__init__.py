"""Personal data and secrets: where they stand in a row, and how a report masks them."""
