"""A whole workspace: its stages, what each takes, what is done already."""
