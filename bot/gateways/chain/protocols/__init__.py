"""Protocols a hedge can be made with, one module each."""
