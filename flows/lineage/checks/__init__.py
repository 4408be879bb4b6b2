"""`skillstack verify`: registry, ledger, caches and files compared."""
