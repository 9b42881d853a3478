"""Data sets as they are read: scenes, image lists, checks, normalisation, patches."""
