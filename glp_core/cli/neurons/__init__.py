"""Commands that index, probe, describe and map meta-neurons."""
