"""The commands of `python -m glp_core`, one file each."""
