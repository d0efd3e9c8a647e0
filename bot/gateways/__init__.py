"""The world: everything that speaks a venue's own language. Venue words stop here."""
