"""Judges of hedge policies: worlds whose best answer is known, in which the real policy objects are scored."""
