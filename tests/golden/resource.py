"""The resources: every field with its type, bounds and default, the rules, and the columns."""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.golden import held, sources

TOLD = ("description", "message", "messageExpression")
"""Texts for people, which may be said better."""
_DEEPER = ("properties", "items", "additionalProperties")


def texts() -> held.Texts:
    """A file for each resource."""
    return {
        f"resource-{file.stem}.txt": held.lines(_resource(yaml.safe_load(file.read_bytes())))
        for file in sorted((sources.ROOT / "crds").glob("*.yaml"))
    }


def _resource(crd: dict[str, Any]) -> Iterator[str]:
    spec = crd["spec"]
    yield f"group {spec['group']}, scope {spec['scope']}"
    yield f"names {_json(spec['names'])}"
    for version in spec["versions"]:
        name = version["name"]
        yield f"{name}: served {version['served']}, stored {version['storage']}"
        yield f"{name}: subresources {_json(version.get('subresources'))}"
        for column in version.get("additionalPrinterColumns", ()):
            said = {key: it for key, it in column.items() if key not in TOLD}
            yield f"{name}: column {_json(said)}"
        yield from _schema(version["schema"]["openAPIV3Schema"], name)


def _schema(schema: dict[str, Any], at: str) -> Iterator[str]:
    skipped = (*TOLD, *_DEEPER, "x-kubernetes-validations", "required")
    yield f"{at}: {_json({key: it for key, it in schema.items() if key not in skipped})}"
    for name in schema.get("required", ()):
        yield f"{at}.{name}: required"
    for rule in schema.get("x-kubernetes-validations", ()):
        said = {key: it for key, it in rule.items() if key not in TOLD}
        yield f"{at}: rule {_json({key: _one_line(it) for key, it in said.items()})}"
    for name, field in schema.get("properties", {}).items():
        yield from _schema(field, f"{at}.{name}")
    if "items" in schema:
        yield from _schema(schema["items"], f"{at}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _schema(schema["additionalProperties"], f"{at}.*")


def _one_line(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
