"""Personal data and secrets: where they are in a row, and how a report masks them."""
