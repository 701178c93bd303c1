"""The terms on which a provider is asked: its limits, its time, and fields of its own.

They came after version 1 was first written, so each is left out where it is not set.
"""

from dataclasses import dataclass
from typing import Final

from embedding_contract import json_fields as fields
from embedding_contract.json_fields import InvalidDocument

MAX_SECONDS: Final = 600
"""The longest that a call or a request may take; OpenAI's SDKs wait as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider takes at once, where the policy says so; None: as published, and as learned.

    `body_bytes` is of a whole request.
    """

    items: int | None = None
    body_bytes: int | None = None
    tokens_per_item: int | None = None


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThroughField:
    """A field of a server's own that requests may have; `changes_space`: other vectors by it."""

    name: str
    changes_space: bool = False


def limits_of(item: fields.Object) -> Limits:
    """The limits that a provider's part of the document says.

    Raises:
        InvalidDocument: one is no number above 0.
    """
    positive = fields.nullable(fields.positive)
    return Limits(
        items=item.get("items", positive, default=None),
        body_bytes=item.get("bytes", positive, default=None),
        tokens_per_item=item.get("tokensPerItem", positive, default=None),
    )


def pass_through_fields_of(value: object, path: str) -> tuple[PassThroughField, ...]:
    """The fields that a provider's part lists.

    Raises:
        InvalidDocument: it is no list of them.
    """
    items = [
        fields.Object(item, f"{path}[{number}]")
        for number, item in enumerate(fields.array(value, path))
    ]
    return tuple(
        PassThroughField(
            name=item.get("name", fields.word),
            changes_space=item.get("changesSpace", fields.boolean, default=False),
        )
        for item in items
    )


def seconds(value: object, path: str) -> float:
    """Seconds above 0, up to MAX_SECONDS.

    Raises:
        InvalidDocument: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidDocument(path, "must be a number")
    if not 0 < value <= MAX_SECONDS:
        raise InvalidDocument(path, f"must be above 0, and {MAX_SECONDS} at most")
    return value


def written(
    *,
    limits: Limits,
    call_seconds: float | None,
    request_seconds: float | None,
    pass_through_fields: tuple[PassThroughField, ...],
) -> dict[str, object]:
    """Those that are set, by their keys in a provider's part."""
    groups: dict[str, dict[str, float | None]] = {
        "limits": {
            "items": limits.items,
            "bytes": limits.body_bytes,
            "tokensPerItem": limits.tokens_per_item,
        },
        "timeouts": {"callSeconds": call_seconds, "requestSeconds": request_seconds},
    }
    found: dict[str, object] = {}
    for name, group in groups.items():
        said = {key: value for key, value in group.items() if value is not None}
        if said:
            found[name] = said
    if pass_through_fields:
        found["passThroughFields"] = [
            {"name": it.name, "changesSpace": it.changes_space} for it in pass_through_fields
        ]
    return found
