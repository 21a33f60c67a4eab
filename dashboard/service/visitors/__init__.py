"""Visitors of a shared server: by what they are told apart, and what one of them may ask for."""
