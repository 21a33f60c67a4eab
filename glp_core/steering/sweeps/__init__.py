"""Sweeps: prompts, directions, strengths, arms, noise levels and seeds, described by one file, measured once, kept and compared."""
