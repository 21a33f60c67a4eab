"""Texts and the activations read from them: corpus, store, the workspace's bank, readings of single texts."""
