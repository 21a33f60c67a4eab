"""The index of meta-neurons: one pass over the corpus, what is kept of every neuron, and how it is read again."""
