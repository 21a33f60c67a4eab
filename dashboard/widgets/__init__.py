"""What pages are drawn with: frame, charts, token strips, URL state; no models."""
