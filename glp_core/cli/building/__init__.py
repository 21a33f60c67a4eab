"""The command that makes a whole workspace."""
