"""The definitions of resources, as tests look at them: every field, and every value of a case."""

from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field with its path; `[]` stands for any item, `*` for any key."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
    for inner, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if inner in schema:
            yield f"{path}{mark}", schema[inner]
            yield from fields(schema[inner], f"{path}{mark}")


def check_field(path: str, field: dict[str, Any], *, is_seen: bool) -> None:
    """A field is explained, and nobody can fill it without a bound; `is_seen`: of a status."""
    if not path.endswith(("[]", "*")):
        assert field["description"]
    if field.get("x-kubernetes-int-or-string"):
        assert {"maxLength", "minimum", "maximum"} <= field.keys()
        assert "pattern" in field or "x-kubernetes-validations" in field
        return
    match field["type"]:
        case "array":
            assert "maxItems" in field
            assert "x-kubernetes-list-type" in field
        case "string":
            assert "maxLength" in field or "enum" in field
        case "integer":
            assert "minimum" in field
            # Only people are kept within bounds; a status says what there is.
            assert "maximum" in field or is_seen
        case "object" if "additionalProperties" in field:
            assert "maxProperties" in field


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths, as keys and indices, of everything in a spec that is neither list nor object."""
    items = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key)


def in_words(path: Path) -> str:
    """A path as it is said of a field: of any item of a list."""
    text = "".join("[]" if isinstance(key, int) else f".{key}" for key in path)
    return text.lstrip(".")
