"""Decisions: market state → exposure → policy band → sizing → limits → orders → P&L.

Pure: no IO, no clock, no randomness.
"""
