"""Figures to files that people read."""
