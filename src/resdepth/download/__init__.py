"""The authors' archives."""
