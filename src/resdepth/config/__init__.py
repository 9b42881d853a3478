"""Configuration files: schema, parser, rules."""
