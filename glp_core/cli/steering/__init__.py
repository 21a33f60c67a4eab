"""Commands for directions, and for measuring steering."""
