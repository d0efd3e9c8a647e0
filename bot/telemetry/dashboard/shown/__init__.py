"""What pages show of a state, as sheets of cells: pure, so that each figure can be held against the daemon's own."""
