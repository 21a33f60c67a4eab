"""The commands of `python -m glp_core`, one file each: `add_arguments(parser)` and `run(args)`."""
