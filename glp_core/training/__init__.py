"""Training priors and sparse autoencoders: plan, loop, run folder."""
