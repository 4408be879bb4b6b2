"""`skillstack explore`: eight interactive views of a model and its lineage. Nothing here writes to them.

Each view is a pure module (numbers and figures from data) and a small marimo app in `pages/`, which is also a notebook.
"""
