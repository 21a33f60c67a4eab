"""The index of meta-neurons: a pass over the corpus, what is kept of each, how it is read."""
