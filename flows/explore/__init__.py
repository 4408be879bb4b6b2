"""`skillstack explore`: seven interactive views of a model, its drops and its lineage. Nothing here writes to any of them.

Each view is a pure module (numbers and figures out of data) and a thin marimo app in `pages/`, which reads as a notebook too.
"""
