"""Steering: directions and where they come from, the edit of a layer, and text written under it; `trials` measures what it does."""
