"""A provider's error message: found in any form, bounded, and cleaned of secrets.

Forms in the field: OpenAI's `{"error": {"message": ..}}`; `{"error": "text"}` (Ollama, TEI);
`{"object": "error", "message": ..}` (vLLM); `{"message": .., "type": ..}` (Mistral);
`{"detail": "text"}` (Voyage) and `{"detail": [{"loc": [..], "msg": ..}]}` (FastAPI); an array
around any of them (Gemini); plain text and HTML of proxies. FastAPI quotes the request (`input`)
beside its message, which may be so long that the body was cut: the message is taken out of a
beginning of JSON, too.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

MAX_CHARACTERS: Final = 1000
"""Bound of a provider's words that reach a caller."""
MAX_LOGGED: Final = 300
HIDDEN: Final = "***"

BOM: Final = b"\xef\xbb\xbf"
"""A byte order mark, which RFC 8259, 8.1, lets a reader ignore."""
_OPENING: Final = (b"{", b"[")
_LEAST_ECHO: Final = 8
"""A shorter text of the request may stand in a message by chance."""
_LEAST_BEGINNING: Final = 24
"""Likewise a shorter beginning of a text, which a server shows instead of the whole."""
_LEAST_PART: Final = 16
"""AWS's access key IDs have at least so many characters."""
_LOOKED_AT: Final = 256
"""So much of a text holds that beginning, unless it has long runs of spaces."""
_READ_BYTES: Final = 16_384
_KEYS: Final = re.compile(
    r"(?i:bearer|basic|api[-_ ]?key|token|authorization|secret|password)"
    r"(?P<between>\W{1,4})(?=\S{0,199}[0-9*])(?=\S{0,199}[A-Za-z*])[\w.~+/*=-]{6,}"
    r"|\b(?:(?:sk|pk|pa|al|key|nvapi|xai)[-_]|(?:hf|jina|gsk|rk|tgp)_|AIza|eyJ)"
    r"(?=[\w-]{0,199}[0-9*])[\w.*-]{8,}"
)
"""Words after a word for a key, and words with a vendor's prefix. The look-ahead is bounded, or a
hostile answer could make it read all that follows, from each place."""
_RUN: Final = re.compile(r"[\w-]{24,}")
_UNBROKEN: Final = re.compile(r"[A-Za-z0-9]{16,}")
"""Keys without a prefix (Azure's, Mistral's, Cohere's) have 32 letters and digits or more in a row;
names of models, which must be read, have hyphens after a few (jina-embeddings-v2-base-en)."""
_SAID_SO_FAR: Final = re.compile(
    rb'"(?:error|message|msg|detail|error_message|title|reason)"\s*:\s*"((?:[^"\\]++|\\.)*+)"',
    re.DOTALL,
)
_MESSAGES: Final = (
    *("error", "message", "detail", "errors", "error_message", "title", "reason"),
    "Message",  # of some of AWS's errors
)
_MOST_SAID: Final = 4
_TEXT_PER_REPLACED: Final = 6
"""Characters of a text for each that is not UTF-8."""
_MARKUP: Final = re.compile(
    r"(?is)<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)"
)
_TITLE: Final = re.compile(r"(?is)<title[^>]*>([^<]*)")
_SPACE: Final = re.compile(
    r"(?:[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\\[nrt])+"
)
"""Escaped line ends too: vLLM quotes the request in Python's form."""


def said(body: bytes) -> str:
    """The words of an error's body, MAX_CHARACTERS at most; empty where it has none."""
    body = body.removeprefix(BOM)
    try:
        words = _within(orjson.loads(body))
    except orjson.JSONDecodeError:
        if body.lstrip()[:1] in _OPENING:
            words = _so_far(body)
        else:
            text = body[:_READ_BYTES].decode("utf-8", "replace")
            words = "" if _is_binary(text) else _plain(text)
    return cleaned(words)


def cleaned(words: str) -> str:
    """The same on one line, without what looks like a key, and not longer than MAX_CHARACTERS."""
    # Cut before, as a long text takes long, and after, as hidden keys become shorter.
    line = _SPACE.sub(" ", words[:_READ_BYTES]).strip()
    line = _RUN.sub(_unless_key, _KEYS.sub(HIDDEN, line))
    return line[:MAX_CHARACTERS]


def _unless_key(run: re.Match[str]) -> str:
    return HIDDEN if any(map(_is_mixed, _UNBROKEN.findall(run[0]))) else run[0]


def _is_mixed(run: str) -> bool:
    return not (run.isalpha() or run.isdigit())


def without(words: str, *, key: str | None, texts: Iterable[object] = ()) -> str:
    """The words without this key, and without the request's own texts."""
    if key:
        words = words.replace(key, HIDDEN)
        # AWS's credentials are several words in one.
        for part in key.split(":"):
            words = words.replace(part, HIDDEN) if len(part) >= _LEAST_PART else words
    for text in texts:
        if not words:
            break
        if isinstance(text, str) and len(text) >= _LEAST_ECHO and _may_be_in(words, text):
            # On one line, as the words are.
            line = _SPACE.sub(" ", text[:_READ_BYTES]).strip()
            if len(line) >= _LEAST_ECHO:
                words = _without_beginning(words.replace(line, "..."), line)
    return words


def _may_be_in(words: str, text: str) -> bool:
    """True if the words may hold a text or its beginning: a cheap check, as texts may be many."""
    beginning = _SPACE.sub(" ", text[:_LOOKED_AT])[:_LEAST_BEGINNING].strip()
    return len(beginning) < _LEAST_ECHO or beginning in words


def _without_beginning(words: str, text: str) -> str:
    """The words without the beginning of a text, as far as it goes: servers cut their echoes."""
    beginning = text[:_LEAST_BEGINNING]
    if len(beginning) < _LEAST_BEGINNING:
        return words
    while (at := words.find(beginning)) >= 0:
        pairs = enumerate(zip(words[at:], text, strict=False))
        differs = (place for place, (said, sent) in pairs if said != sent)
        shown = next(differs, min(len(words) - at, len(text)))
        words = f"{words[:at]}...{words[at + shown :]}"
    return words


def has_form(body: bytes) -> bool:
    """True for an error in an API's own form: a JSON object with a message."""
    return body.removeprefix(BOM).lstrip()[:1] in _OPENING and bool(said(body))


def error_of(body: bytes) -> dict[str, Any]:
    """The object that has message, code, type and param; empty where there is none."""
    try:
        raw = orjson.loads(body.removeprefix(BOM))
    except orjson.JSONDecodeError:
        return {}
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if not isinstance(raw, dict):
        return {}
    # `detail`: FastAPI's HTTPException with an object.
    found = (raw.get(name) for name in ("error", "detail"))
    return next((it for it in found if isinstance(it, dict)), raw)


def _within(raw: Any, depth: int = 4) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list) and depth:
        return "; ".join(filter(None, (_within(it, depth - 1) for it in raw[:4])))
    return _within_object(raw, depth) if isinstance(raw, dict) and depth else ""


def _within_object(raw: dict[str, Any], depth: int) -> str:
    if isinstance(message := raw.get("msg"), str):
        # FastAPI's; its `input` is the caller's own text.
        place = raw.get("loc")
        where = ".".join(str(it) for it in place[:8]) if isinstance(place, list) else ""
        return f"{where}: {message}" if where else message
    for name in _MESSAGES:
        words = _within(raw.get(name), depth - 1)
        if words:
            return words
    return ""


def _so_far(body: bytes) -> str:
    """The complete messages in a beginning of JSON."""
    found = []
    for match in _SAID_SO_FAR.finditer(body[:_READ_BYTES]):
        try:
            found.append(str(orjson.loads(b'"%b"' % match[1])))
        except orjson.JSONDecodeError:
            continue
        if len(found) == _MOST_SAID:
            break
    return "; ".join(found)


def _is_binary(text: str) -> bool:
    """True if it is not text, but compressed for example: ISO 8859-1 has fewer such bytes."""
    return "\0" in text or text.count("\ufffd") * _TEXT_PER_REPLACED > len(text)


def _plain(text: str) -> str:
    if "<" not in text:
        return text
    title = _TITLE.search(text)
    body = _MARKUP.sub(" ", text)
    return f"{title[1]}: {body}" if title and title[1].strip() not in body else body
