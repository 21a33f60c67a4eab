"""Steered texts over HTTP, for clients of OpenAI's API."""
