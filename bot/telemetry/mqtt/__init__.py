"""The broker as a window: state, events and alerts go out, commands come in. Trading never waits for it."""
