"""Trials: what steering does to many texts, how concept trades against fluency, and the reports made of it."""
