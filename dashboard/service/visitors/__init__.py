"""Visitors of a shared server: whence they may come, by what they are told apart, and what one of them may ask for."""
