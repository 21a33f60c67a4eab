"""Meta-neurons for a reader: over a text, found by concept, probed, described, laid out on maps."""
