"""Orthogonal Subspace Fine-Tuning: a drop and a champion go in, a candidate comes out.

Importing this package loads nothing heavy; `osft` brings torch and transformers when it is called.
"""

from osft_engine.api import osft

__all__ = ["osft"]
