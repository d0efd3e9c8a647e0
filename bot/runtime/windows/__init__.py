"""What looks at daemons and brings them orders, in a process of its own: broker, metrics, alerts, signed commands."""
