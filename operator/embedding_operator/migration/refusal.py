"""What a person asked for and cannot be had: a retry does not help, another command line may."""

from embedding_operator import errors


class Refused(errors.OperatorError):
    """The text names the option, variable, file and line, or key; never a value."""
