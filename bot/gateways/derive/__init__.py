"""Derive's own words and quirks. Nothing outside this package may know them."""
