"""The state of one project and what every flow does in it: stages by content, outcomes, pages."""
