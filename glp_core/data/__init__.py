"""Texts and the activations read from them: corpus, store, bank."""
