"""Whether two texts are the same or nearly so: signatures, boilerplate, held-out items, earlier drops."""
