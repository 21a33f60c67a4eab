"""Texts that a person gives: a box for a long one, two classes of short ones."""
