"""The queue of a device: who computes when."""
