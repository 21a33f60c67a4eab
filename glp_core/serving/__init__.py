"""Steered texts over HTTP, for clients that speak OpenAI's API."""
