"""The generative latent prior: network, flow matching, projection, distance, and the Gaussian beside it; knows no LLM."""
