"""The yardstick: what hedging costs at best, and how near to that a policy comes. It must never trade."""
