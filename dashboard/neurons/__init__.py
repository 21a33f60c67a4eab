"""The Meta-neurons page."""
