"""Orders of people to a daemon: how they reach it, what may change while it runs, the halt that needs no daemon."""
