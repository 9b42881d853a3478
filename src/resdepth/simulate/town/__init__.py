"""A procedural town: an endless surface that follows from a style and a seed."""
