"""Commands that measure a prior."""
