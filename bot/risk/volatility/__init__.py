"""Volatility that is forecast: measured from prices, modelled, back-tested, and believed only as far as it was right."""
