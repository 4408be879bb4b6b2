"""The numbers and figures of each view, without a page."""
