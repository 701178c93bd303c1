"""Text of others, as it may be shown to a person."""


def shown(text: str) -> str:
    """Text that cannot steer a terminal: with escapes, in quotes, where it holds what could."""
    return text if text.isprintable() else ascii(text)
