"""Sweeps in the Lab: what to sweep, the sweep while it runs, what it found, saved ones, and files that leave."""
