"""The error of a command line that cannot be carried out; a retry does not help."""

from embedding_operator import errors


class Refused(errors.OperatorError):
    """The text names the option, variable, file and line, or key; never a value."""
