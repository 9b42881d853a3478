"""The whole jobs, composed of the parts; nothing is computed here.

Each is imported from its own module, as some need what others do without: torch, packages for simulation.
"""
