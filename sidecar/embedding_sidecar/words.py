"""What a provider says in its own words: found in any form, bounded, and cleaned of secrets.

Forms in the field: OpenAI's `{"error": {"message": ..}}`; `{"error": "text"}` (Ollama, TEI);
`{"object": "error", "message": ..}` (vLLM); `{"message": .., "type": ..}` (Mistral);
`{"detail": "text"}` (Voyage) and `{"detail": [{"loc": [..], "msg": ..}]}` (FastAPI); an array
around any of them (Gemini); plain text and HTML of what stands before a server.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

MAX_CHARACTERS: Final = 1000
"""Of a provider's words that reach a caller."""
MAX_LOGGED: Final = 300
HIDDEN: Final = "***"

_LEAST_ECHO: Final = 8
"""A shorter text of the request may stand anywhere by chance."""
_READ_BYTES: Final = 16_384
_KEYS: Final = re.compile(
    r"(?i:bearer|basic|api[-_ ]?key|token|authorization|secret|password)"
    r"(?P<between>\W{1,4})(?=\S*[0-9*])[\w.~+/*=-]{6,}"
    r"|\b(?:sk|pk|pa|al|hf|jina|nvapi|gsk|key|xai|AIza|eyJ|rk|co|tgp)[-_]?(?=[\w-]*[0-9*])[\w.*-]{8,}"
    r"|(?<![\w-])(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{24,}"
)
"""What follows a word for a key; the vendors' prefixes; and long runs of letters with digits."""
_MARKUP: Final = re.compile(
    r"(?is)<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)"
)
_TITLE: Final = re.compile(r"(?is)<title[^>]*>([^<]*)")
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")


def said(body: bytes) -> str:
    """The words of an error's body, at most MAX_CHARACTERS of them; empty where it has none."""
    try:
        words = _within(orjson.loads(body.removeprefix(b"\xef\xbb\xbf")))
    except orjson.JSONDecodeError:
        words = _plain(body[:_READ_BYTES].decode("utf-8", "replace"))
    return cleaned(words)


def cleaned(words: str) -> str:
    """The same on one line, without what looks like a key, and not longer than MAX_CHARACTERS."""
    # Cut twice: before, as a long text takes long, and after, as what is hidden is shorter.
    line = _SPACE.sub(" ", words[:_READ_BYTES]).strip()
    return _KEYS.sub(HIDDEN, line)[:MAX_CHARACTERS]


def without(words: str, *, key: str | None, texts: Iterable[object] = ()) -> str:
    """The words without this key, and without what the request itself said."""
    if key:
        words = words.replace(key, HIDDEN)
    for text in texts:
        if not words:
            break
        if isinstance(text, str) and len(text) >= _LEAST_ECHO:
            # On one line, as the words are.
            line = _SPACE.sub(" ", text[:_READ_BYTES]).strip()
            if len(line) >= _LEAST_ECHO:
                words = words.replace(line, "...")
    return words


def has_form(body: bytes) -> bool:
    """Whether it is an error in a form of an API's own: a JSON object that says something."""
    try:
        raw = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return False
    return isinstance(raw, dict | list) and bool(_within(raw))


def error_of(body: bytes) -> dict[str, Any]:
    """The object that has message, code, type and param; empty where there is none."""
    try:
        raw = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return {}
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if not isinstance(raw, dict):
        return {}
    error = raw.get("error")
    return error if isinstance(error, dict) else raw


def _within(raw: Any, depth: int = 4) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list) and depth:
        return "; ".join(filter(None, (_within(it, depth - 1) for it in raw[:4])))
    return _within_object(raw, depth) if isinstance(raw, dict) and depth else ""


def _within_object(raw: dict[str, Any], depth: int) -> str:
    if isinstance(message := raw.get("msg"), str):
        # FastAPI's; `input`, which it says too, is the caller's own text.
        place = raw.get("loc")
        where = ".".join(str(it) for it in place[:8]) if isinstance(place, list) else ""
        return f"{where}: {message}" if where else message
    for name in ("error", "message", "detail", "errors", "error_message", "title", "reason"):
        words = _within(raw.get(name), depth - 1)
        if words:
            return words
    return ""


def _plain(text: str) -> str:
    if "<" not in text:
        return text
    title = _TITLE.search(text)
    body = _MARKUP.sub(" ", text)
    return f"{title[1]}: {body}" if title and title[1].strip() not in body else body
