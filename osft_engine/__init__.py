"""Orthogonal Subspace Fine-Tuning (OSFT): a drop and a champion go in, a candidate comes out.

`protect: weights` is OSFT as published (Nayak et al. 2025, arXiv:2504.07097). The default, `protect: activations`, protects the input
subspace instead, as GPM (Saha et al. 2021, arXiv:2103.09762) and Adam-NSCL (Wang et al. 2021, arXiv:2103.07113) do.

Importing this package loads nothing heavy; `osft` brings torch and transformers when it is called.
"""

from osft_engine.api import osft

__all__ = ["osft"]
