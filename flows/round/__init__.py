"""One round: a drop becomes a promoted or held version."""
