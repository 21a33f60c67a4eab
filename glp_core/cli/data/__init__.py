"""Commands that set up, collect and keep activations."""
