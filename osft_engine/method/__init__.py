"""The method applied to a model: ranks, bases, attaching layers, quantised bases."""
