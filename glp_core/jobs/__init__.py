"""The queue of a device: many people's requests, one thread that computes."""
