"""The one exception that a user can cause: what was got, what was wanted, and the way out."""


class GlpError(ValueError):
    """Report bad input; its message is fit to be shown to a person as it is."""
