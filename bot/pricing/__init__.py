"""NUMBERS: option values and Greeks, implied volatility, the smile, coin-settled options, futures.

Pure functions of arrays: nothing here knows a venue, a position or the time of day, or imports another package of ours.
"""
