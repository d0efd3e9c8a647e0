"""Figures for Prometheus and answers for health checks: read by machines, never by the engine."""
