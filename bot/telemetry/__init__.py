"""The windows: structured logs and reports. Nothing here can touch trading."""
