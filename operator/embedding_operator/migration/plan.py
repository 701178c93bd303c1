"""What a migration does and what a verification finds: pure, by key name."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What became of a key, in the words of the table."""

    WRITTEN = "written"
    OVERWRITTEN = "overwritten"
    EQUAL = "equal"
    KEPT = "kept: Vault has another value"
    EMPTY = "not written: empty at the source"
    DIFFERENT = "different"
    PRESENT = "present"
    NOT_AT_SOURCE = "missing at the source"
    NOT_IN_VAULT = "missing in Vault"


SETTLED = frozenset({Outcome.WRITTEN, Outcome.OVERWRITTEN, Outcome.EQUAL, Outcome.PRESENT})
"""The outcomes after which Vault has what the source has."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the table."""

    key: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Plan:
    """`content` is all that the path shall hold; None where there is nothing to write."""

    steps: tuple[Step, ...]
    content: Mapping[str, object] | None = field(repr=False)


def migration(
    source: Mapping[str, str],
    held: Mapping[str, object],
    *,
    keys: Iterable[str],
    overwrite: bool,
) -> Plan:
    """What brings `keys` of `source` to a path that holds `held`; the path's other keys stay."""
    steps = tuple(
        Step(key, _becomes(source.get(key), key in held, held.get(key), overwrite=overwrite))
        for key in keys
    )
    written = {
        step.key: source[step.key]
        for step in steps
        if step.outcome in {Outcome.WRITTEN, Outcome.OVERWRITTEN}
    }
    return Plan(steps, {**held, **written} if written else None)


def comparison(
    source: Mapping[str, str], held: Mapping[str, object], *, keys: Iterable[str]
) -> tuple[Step, ...]:
    """Whether `keys` are the same on both sides."""
    return tuple(
        Step(key, _presence(key, source, held) or _sameness(source[key], held[key])) for key in keys
    )


def comparison_of_names(
    source: Iterable[str], held: Iterable[str], *, keys: Iterable[str]
) -> tuple[Step, ...]:
    """Whether `keys` are there on both sides; nothing is said of their values."""
    here, there = frozenset(source), frozenset(held)
    return tuple(Step(key, _presence(key, here, there) or Outcome.PRESENT) for key in keys)


def settled(steps: Iterable[Step]) -> bool:
    """Whether Vault has every key as the source has it."""
    return all(step.outcome in SETTLED for step in steps)


def _becomes(wanted: str | None, there: bool, held: object, *, overwrite: bool) -> Outcome:  # noqa: FBT001 - a fact, no switch
    if wanted is None:
        return Outcome.NOT_AT_SOURCE
    if there and _sameness(wanted, held) is Outcome.EQUAL:
        return Outcome.EQUAL
    if not wanted:
        # A template that was not filled in; written, it would stand in the way of the value.
        return Outcome.EMPTY
    if not there:
        return Outcome.WRITTEN
    return Outcome.OVERWRITTEN if overwrite else Outcome.KEPT


def _presence(key: str, source: Iterable[str], held: Iterable[str]) -> Outcome | None:
    if key not in source:
        return Outcome.NOT_AT_SOURCE
    return None if key in held else Outcome.NOT_IN_VAULT


def _sameness(wanted: str, held: object) -> Outcome:
    """Text alone can be equal to text; in constant time, as it costs nothing to be sure."""
    if not isinstance(held, str):
        return Outcome.DIFFERENT
    # JSON may hold halves of characters, which no UTF-8 has.
    same = hmac.compare_digest(wanted.encode(), held.encode(errors="surrogatepass"))
    return Outcome.EQUAL if same else Outcome.DIFFERENT
