"""Orthogonal Subspace Fine-Tuning: a drop and a champion go in, a candidate comes out."""
