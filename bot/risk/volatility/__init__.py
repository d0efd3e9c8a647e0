"""Volatility that is forecast: measured from prices, modelled, tested, and believed as far as it was right."""
