"""Show untrusted text in a terminal."""


def shown(text: str) -> str:
    """The text, quoted and escaped if it holds characters that could control a terminal."""
    return text if text.isprintable() else ascii(text)
