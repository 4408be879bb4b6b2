"""Versions and decisions about them: ledger, promotion, approval, history, retention."""
