"""Checked readers: that a file holds what is wanted is seen before anything is allocated or taken out of it."""
