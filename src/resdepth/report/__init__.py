"""Metrics to files that people read."""
