"""The values of a synced Secret from those of its path in Vault: chosen, renamed, and templated.

The keys of a Secret with a type or a template belong together, as a certificate and its key do: if
one cannot be had, there are no values at all, and the last good Secret stays.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from embedding_operator.errors import InvalidPolicy, Problem
from embedding_operator.policy.policy import OPAQUE, SyncedSecret
from embedding_operator.render import secret_templates

DOCKER_CONFIG: Final = "kubernetes.io/dockerconfigjson"
BASIC_AUTH: Final = "kubernetes.io/basic-auth"
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    OPAQUE: (),
    DOCKER_CONFIG: (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    BASIC_AUTH: (),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
"""The keys that a Secret of each type must have (ValidateSecret of k8s.io/kubernetes)."""
BASIC_AUTH_KEYS: Final = ("username", "password")
"""One of these is enough for basic-auth."""
_DATA_KEY: Final = re.compile(r"(?=.{1,253}$)\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*")
"""Valid keys of a Secret (IsConfigMapKey of k8s.io/apimachinery)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The values of a Secret, and the problems of those that it lacks."""

    values: Mapping[str, bytes] = field(repr=False)
    problems: tuple[Problem, ...] = ()


def of(entry: SyncedSecret, found: Mapping[str, bytes], *, path: str) -> Content:
    """The values of an entry's Secret; `found` are those at its `path` in Vault."""
    keys = entry.keys or {key: key for key in found}
    problems = [_missing(key, path) for key in keys if key not in found]
    values = {name: found[key] for key, name in keys.items() if key in found}
    if entry.templates is not None:
        made, unmade = _templated(entry, values, path=path)
        known = {it.message for it in problems}
        problems += [it for it in unmade if it.message not in known]
        values = {**(values if entry.merges else {}), **made}
    unusable = [name for name in values if not _DATA_KEY.fullmatch(name)]
    by_name = {name: key for key, name in keys.items()}
    problems += [_unusable(by_name.get(name, name), path) for name in unusable]
    values = {name: value for name, value in values.items() if name not in unusable}
    if entry.is_whole:
        problems += [] if problems else _of_type(entry, values, path=path)
        values = {} if problems else values
    return Content(values=values, problems=tuple(problems))


def check(entry: SyncedSecret) -> None:
    """Read the templates of an entry.

    Raises:
        InvalidPolicy: one cannot be read.
    """
    for key, text in (entry.templates or {}).items():
        try:
            secret_templates.read(text)
        except secret_templates.TemplateError as error:
            path = f"spec.secrets: {entry.name}: template.data[{key}]"
            raise InvalidPolicy(path, str(error), reason="TemplateInvalid") from None


def _templated(
    entry: SyncedSecret, values: Mapping[str, bytes], *, path: str
) -> tuple[dict[str, bytes], list[Problem]]:
    budget = secret_templates.Budget()
    made: dict[str, bytes] = {}
    problems: list[Problem] = []
    for key, text in (entry.templates or {}).items():
        where = f"{entry.name}: template.data[{key}]"
        try:
            template = secret_templates.read(text)
        except secret_templates.TemplateError as error:
            problems.append(Problem("TemplateInvalid", f"{where}: {error}"))
            continue
        try:
            made[key] = secret_templates.fill(template, values, budget=budget)
        except secret_templates.TemplateError as error:
            if error.missing is not None:
                problems.append(_missing(error.missing, path))
            else:
                problems.append(Problem("TemplateFailed", f"{where}: {error} ({path})"))
    return made, problems


def _missing(key: str, path: str) -> Problem:
    return Problem("KeyMissing", f"there is no key {key} at {path}")


def _unusable(key: str, path: str) -> Problem:
    message = f"key {key} of {path} is not a valid key of a Secret; rename it"
    return Problem("KeyUnusable", message)


def _of_type(entry: SyncedSecret, values: Mapping[str, bytes], *, path: str) -> list[Problem]:
    """The problems of values that the API server would refuse for the type, or nobody could use."""
    source = path if entry.templates is None else f"{path} with its template"
    about = f"{entry.name}: type {entry.type} needs"
    lacking = [key for key in NEEDED[entry.type] if not values.get(key, b"").strip()]
    if entry.type == BASIC_AUTH and not any(key in values for key in BASIC_AUTH_KEYS):
        lacking = [" or ".join(BASIC_AUTH_KEYS)]
    if lacking:
        message = f"{about} {', '.join(lacking)}, which {source} does not give"
        return [Problem("TypeKeysMissing", message)]
    if entry.type == DOCKER_CONFIG and not _is_docker_config(values[NEEDED[DOCKER_CONFIG][0]]):
        message = (
            f'{about} an object with "auths" as JSON in .dockerconfigjson, which {source} does not'
            " give"
        )
        return [Problem("ValueUnusable", message)]
    return []


def _is_docker_config(value: bytes) -> bool:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("auths"), dict)
