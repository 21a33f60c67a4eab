"""Directions to steer along: those of meta-neurons, what a strength means along one, and at which strength a link opens it."""
