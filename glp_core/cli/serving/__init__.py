"""Commands that answer others."""
