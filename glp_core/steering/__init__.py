"""Steering: directions and where they come from, the edit of a layer, text written under it, and what it measures."""
