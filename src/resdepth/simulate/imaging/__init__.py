"""Images of a surface: rays, light, materials."""
