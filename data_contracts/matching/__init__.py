"""Whether two texts say the same: signatures, boilerplate, held-out items, earlier drops."""
