"""The packaged CustomResourceDefinition: defaults and schema checks without a cluster.

For `render`, which works on a file. CEL rules that are one pattern are evaluated here; the modules
of this package check again what other rules say of providers and quota.
"""

import copy
import functools
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final

import yaml

from embedding_contract import names
from embedding_operator import errors

FILE = "embeddingpolicies.yaml"
FILES: Final = {names.KIND: FILE, names.CLASS_KIND: "clusterembeddingproviders.yaml"}
"""The definition of each kind that `render` reads."""
PLURALS: Final = {
    names.KIND: names.PLURAL,
    names.INDEX_KIND: names.INDEX_PLURAL,
    names.CLASS_KIND: names.CLASS_PLURAL,
    names.INJECTION_KIND: names.INJECTION_PLURAL,
}
"""All kinds of this operator."""
_PATTERN_RULE: Final = re.compile(r"self\.matches\('([^'\\]*)'\)")
"""A rule whose pattern means the same to RE2, which an API server uses, and to Python."""


def load(kind: str = names.KIND) -> dict[str, Any]:
    """The CustomResourceDefinition in this package, a link to the one in crds/."""
    file = f"{PLURALS[kind]}.yaml"
    text = (resources.files("embedding_operator") / "crds" / file).read_text("utf-8")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def admit(raw: Any) -> dict[str, Any]:
    """An object as an API server would store it: checked against the schema, defaults filled in.

    Raises:
        errors.InvalidPolicy: it is of none of the kinds in FILES, or a field does not match the
            schema.
    """
    if not isinstance(raw, dict) or raw.get("kind") not in FILES:
        raise errors.InvalidPolicy("kind", f"must be {' or '.join(FILES)}")
    if raw.get("apiVersion") != names.API_VERSION:
        raise errors.InvalidPolicy("apiVersion", f"must be {names.API_VERSION}")
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise errors.InvalidPolicy("metadata.name", "is missing")
    # It takes a second to import where all its formats are installed, and `run` never needs it.
    import jsonschema  # noqa: PLC0415

    schema = _schema(raw["kind"])
    admitted = copy.deepcopy(raw)
    _fill(admitted, schema)
    validator = jsonschema.Draft202012Validator(_closed(schema))
    for error in sorted(
        validator.iter_errors(admitted), key=lambda found: list(map(str, found.path))
    ):
        path = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path
        )
        raise errors.InvalidPolicy(path.removeprefix("."), error.message)
    for place, message in _mismatches(admitted, schema, ""):
        raise errors.InvalidPolicy(place.removeprefix("."), message)
    return admitted


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = load(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _fill(value: Any, schema: dict[str, Any]) -> None:
    """Structural defaulting: set a default where its parent exists."""
    if isinstance(value, dict):
        for key, field in schema.get("properties", {}).items():
            if key not in value and "default" in field:
                value[key] = copy.deepcopy(field["default"])
            if key in value:
                _fill(value[key], field)
    elif isinstance(value, list):
        for item in value:
            _fill(item, schema.get("items", {}))


def _mismatches(value: Any, schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Path and message for each string that a rule of one pattern refuses."""
    if isinstance(value, str):
        for rule in schema.get("x-kubernetes-validations", ()):
            pattern = _PATTERN_RULE.fullmatch(rule["rule"])
            if pattern is not None and not re.search(pattern[1], value):
                yield path, rule["message"]
    elif isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, inner in value.items():
            field = fields.get(key, others)
            if isinstance(field, dict):
                yield from _mismatches(inner, field, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mismatches(item, schema.get("items", {}), f"{path}[{index}]")


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as JSON Schema that refuses unknown fields, like `kubectl`."""
    made = {key: it for key, it in schema.items() if not key.startswith(("x-", "format"))}
    if schema.get("x-kubernetes-int-or-string"):
        # It has no `type` of its own.
        bounds = ("minimum", "maximum", "maxLength", "pattern")
        return {"type": ["integer", "string"], **{it: made[it] for it in bounds if it in made}}
    if "properties" in schema:
        made["properties"] = {key: _closed(field) for key, field in schema["properties"].items()}
        made["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _closed(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = _closed(schema["items"])
    if schema.get("type") == "object" and "properties" not in made:
        made.setdefault("additionalProperties", True)
    return made
