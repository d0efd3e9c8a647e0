"""Nouns: the immutable values every other part of Evenkeel speaks in. Imports nothing of ours."""
