"""The numbers and figures of each view, without its page."""
