"""What a drop must be, and the manifests that stages hand to one another.

Importing this package loads pydantic and the standard library only, so that a GPU worker and the gate can use it.
"""
