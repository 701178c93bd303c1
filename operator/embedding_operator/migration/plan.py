"""The plan of a migration and the result of a verification, by key name. Pure."""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The result for a key, in the words of the table."""

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
"""The outcomes after which Vault and the source agree."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the table."""

    key: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Plan:
    """`content` is everything that the path shall hold; None where there is nothing to write."""

    steps: tuple[Step, ...]
    content: Mapping[str, object] | None = field(repr=False)


def migration(
    source: Mapping[str, str],
    held: Mapping[str, object],
    *,
    keys: Iterable[str],
    overwrite: bool,
) -> Plan:
    """The plan that copies `keys` of `source` to a path that holds `held`; its other keys stay."""
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
    """Compare `keys` and their values on both sides."""
    return tuple(
        Step(key, _presence(key, source, held) or _sameness(source[key], held[key])) for key in keys
    )


def comparison_of_names(
    source: Iterable[str], held: Iterable[str], *, keys: Iterable[str]
) -> tuple[Step, ...]:
    """Compare the presence of `keys` on both sides, without their values."""
    here, there = frozenset(source), frozenset(held)
    return tuple(Step(key, _presence(key, here, there) or Outcome.PRESENT) for key in keys)


def settled(steps: Iterable[Step]) -> bool:
    """True where Vault has every key as the source has it."""
    return all(step.outcome in SETTLED for step in steps)


def _becomes(wanted: str | None, there: bool, held: object, *, overwrite: bool) -> Outcome:  # noqa: FBT001 - a fact, no switch
    if wanted is None:
        return Outcome.NOT_AT_SOURCE
    if there and _sameness(wanted, held) is Outcome.EQUAL:
        return Outcome.EQUAL
    if not wanted:
        # An unfilled template; a migration of the real value would find it in its way.
        return Outcome.EMPTY
    if not there:
        return Outcome.WRITTEN
    return Outcome.OVERWRITTEN if overwrite else Outcome.KEPT


def _presence(key: str, source: Iterable[str], held: Iterable[str]) -> Outcome | None:
    if key not in source:
        return Outcome.NOT_AT_SOURCE
    return None if key in held else Outcome.NOT_IN_VAULT


def _sameness(wanted: str, held: object) -> Outcome:
    """Compare in constant time; a value in Vault that is no text differs from any text."""
    if not isinstance(held, str):
        return Outcome.DIFFERENT
    # JSON may hold halves of characters, which no UTF-8 has.
    same = hmac.compare_digest(wanted.encode(), held.encode(errors="surrogatepass"))
    return Outcome.EQUAL if same else Outcome.DIFFERENT
