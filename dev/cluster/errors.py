"""What the commands say to a person instead of a traceback."""


class Failure(Exception):  # noqa: N818 - every subclass ends in Error; this is their kind
    """Something a person can act on; the text says what."""
