"""Evenkeel keeps a crypto derivatives book at its target exposure; `docs/architecture.md` is the map of it."""

__version__ = "0.1.0"
