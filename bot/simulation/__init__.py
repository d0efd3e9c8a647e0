"""A world to rehearse in: recordings, and a seeded venue that fills orders against them.

Pure: no IO but reading and writing recordings.
"""
