"""The administrator's rules for Vault paths by namespace, checked before any call.

Rules come from the chart's values, never from a policy. No rule allows nothing. A path is taken
literally: what could be read in two ways (`..`, `%2e`, `//`, another alphabet) is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAMESPACE: Final = "{{namespace}}"
_ANY: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One permission. `namespace` `*` means every one; a `path` ending in `/*` means all below."""

    namespace: str
    mount: str
    path: str

    def __str__(self) -> str:
        return f"namespace {self.namespace} may read {self.mount}/{self.path}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason to refuse a read; the message names the present rules."""

    message: str


class InvalidRules(ValueError):  # noqa: N818 - says what is wrong with what
    """The file of rules is not valid; the text names the entry."""


@dataclass(frozen=True, slots=True)
class AccessRules:
    """All rules."""

    rules: tuple[Rule, ...] = ()

    def refusal(self, *, namespace: str, mount: str, path: str) -> Refusal | None:
        """The reason to refuse a namespace this path of a mount; None if it is allowed."""
        for what, text in (("mount", mount), ("path", path)):
            if not _plain(text):
                return Refusal(
                    f"the {what} {text[:200]!r} is not plain: segments of letters, digits, _, - and"
                    f" ., none of them . or .., joined by single slashes"
                )
        if any(_allows(rule, namespace=namespace, mount=mount, path=path) for rule in self.rules):
            return None
        own = [str(rule) for rule in self.rules if rule.namespace in (_ANY, namespace)]
        told = "; ".join(own[:5]) if own else f"no rule names namespace {namespace}"
        return Refusal(f"namespace {namespace} may not read {mount}/{path} (vault.allowed: {told})")


def load(file: Path) -> AccessRules:
    """The rules of a YAML list of `{namespace, mount, path}`.

    Raises:
        InvalidRules: it cannot be read, or an entry is not one of those.
    """
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidRules(f"{file}: {error}") from None
    return parse(raw or [])


def parse(raw: Any) -> AccessRules:
    """The rules of an already parsed list.

    Raises:
        InvalidRules: an entry is not `{namespace, mount, path}` or could be read in two ways.
    """
    if not isinstance(raw, list):
        raise InvalidRules("vault.allowed must be a list")
    return AccessRules(tuple(_rule(entry, f"vault.allowed[{i}]") for i, entry in enumerate(raw)))


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict) or entry.keys() != {"namespace", "mount", "path"}:
        raise InvalidRules(f"{where} must have exactly namespace, mount and path")
    if not all(isinstance(value, str) and value for value in entry.values()):
        raise InvalidRules(f"{where}: namespace, mount and path must be strings that are not empty")
    rule = Rule(**entry)
    path = rule.path.removesuffix(f"/{_ANY}").replace(_NAMESPACE, "n")
    if not _plain(rule.mount) or (rule.path != _ANY and not _plain(path)):
        raise InvalidRules(
            f"{where}: mount and path must be plain; {_NAMESPACE} stands for the policy's namespace"
            f" and only a last segment may be *"
        )
    return rule


def _allows(rule: Rule, *, namespace: str, mount: str, path: str) -> bool:
    if rule.namespace not in (_ANY, namespace) or rule.mount != mount:
        return False
    allowed = rule.path.replace(_NAMESPACE, namespace)
    if allowed == _ANY:
        return True
    if allowed.endswith(f"/{_ANY}"):
        return path.startswith(allowed[:-1]) and len(path) > len(allowed) - 1
    return path == allowed


def _plain(text: str) -> bool:
    return all(_SEGMENT.fullmatch(segment) for segment in text.split("/"))
