"""Margin models, one venue's each: positions and dated parameters in, an itemised requirement out."""
