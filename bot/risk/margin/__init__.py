"""Margin models, one module each: parameters as data, one `requirement` that answers item by item."""
