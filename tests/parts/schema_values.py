"""Values that a definition's schema allows, as a strategy of Hypothesis.

A rule in CEL is followed where it is one pattern, or "exactly one of these"; the API server judges
the others. Schemas leave names open that must fit together, such as those of Secrets: a test gives
strategies for them, by path, as `tests.parts.crd.in_words` writes it, and repairs for what several
fields must agree on.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Schema = Mapping[str, Any]
Strategy = st.SearchStrategy[Any]

MOST_ITEMS = 3
"""Of a list or a map: more find nothing that these do not, and are no easier to read."""
LONGEST = 12
"""Characters of a string without a pattern."""
_PATTERN = re.compile(r"self\.matches\('([^']*)'\)")
_KEY_PATTERN = re.compile(r"key\.matches\('([^']*)'\)")
_HAS = re.compile(r"has\(self\.(\w+)\)")
_ONE_OF = re.compile(r"has\(self\.\w+\) != has\(self\.\w+\)|\[has.*\.size\(\) == 1")
_TEXT = st.characters(codec="utf-8", exclude_categories=["C"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Strategies by path in place of the schema's own, and repairs by path of what it made."""

    given: Mapping[str, Strategy]
    repairs: Mapping[str, Callable[[Any], Any]]

    def of(self, schema: Schema, path: str = "") -> Strategy:
        """What the schema of the field at this path allows."""
        if path in self.given:
            return self.given[path]
        made = self._made(schema, path)
        return made.map(self.repairs[path]) if path in self.repairs else made

    def _made(self, schema: Schema, path: str) -> Strategy:
        match schema.get("type"):
            case _ if "enum" in schema:
                made: Strategy = st.sampled_from(schema["enum"])
            case "array":
                made = self._list(schema, path)
            case "object":
                made = self._object(schema, path)
            case "boolean":
                made = st.booleans()
            case "integer":
                made = _number(schema)
            case "string":
                made = _text(schema)
            case _ if schema.get("x-kubernetes-int-or-string"):
                made = _text(schema) | _number(schema)
            case unknown:
                raise ValueError(f"{path}: no values of type {unknown}")
        return made

    def _list(self, schema: Schema, path: str) -> Strategy:
        keys = schema.get("x-kubernetes-list-map-keys", ())
        unique: Callable[[Any], Any] | None = None
        if schema.get("x-kubernetes-list-type") in ("set", "map"):
            unique = (lambda it: tuple(it[key] for key in keys)) if keys else repr
        return st.lists(
            self.of(schema["items"], f"{path}[]"),
            min_size=schema.get("minItems", 0),
            max_size=min(schema["maxItems"], MOST_ITEMS),
            unique_by=unique,
        )

    def _object(self, schema: Schema, path: str) -> Strategy:
        if isinstance(schema.get("additionalProperties"), dict):
            keys = _of_pattern(_KEY_PATTERN, schema)
            return st.dictionaries(
                _text({"minLength": 1}) if keys is None else keys,
                self.of(schema["additionalProperties"], f"{path}.*"),
                min_size=schema.get("minProperties", 0),
                max_size=min(schema["maxProperties"], MOST_ITEMS),
            )
        fields = {
            name: self.of(field, f"{path}.{name}".lstrip("."))
            for name, field in schema.get("properties", {}).items()
        }
        required = {name: fields.pop(name) for name in schema.get("required", ())}
        for rule in schema.get("x-kubernetes-validations", ()):
            if _ONE_OF.match(rule["rule"]):
                several = {name: fields.pop(name) for name in _HAS.findall(rule["rule"])}
                forms: list[Strategy] = [
                    st.fixed_dictionaries({**required, name: one}, optional=fields)
                    for name, one in several.items()
                ]
                return st.one_of(forms)
        return st.fixed_dictionaries(required, optional=fields)


def _number(schema: Schema) -> Strategy:
    lowest, highest = schema["minimum"], schema["maximum"]
    return st.integers(lowest, highest) | st.sampled_from([lowest, highest])


def _text(schema: Schema) -> Strategy:
    longest, shortest = schema.get("maxLength", LONGEST), schema.get("minLength", 0)
    pattern = schema.get("pattern")
    made = _of_pattern(_PATTERN, schema) if pattern is None else _matching(pattern)
    if made is None:
        return st.text(_TEXT, min_size=shortest, max_size=min(longest, LONGEST))
    return made.filter(lambda it: shortest <= len(it) <= longest)


def _of_pattern(rule: re.Pattern[str], schema: Schema) -> Strategy | None:
    """Strings that match the first pattern in the rules of a schema."""
    for it in schema.get("x-kubernetes-validations", ()):
        if found := rule.search(it["rule"]):
            return _matching(found[1].replace(r"\\", "\\"))
    return None


def _matching(pattern: str) -> Strategy:
    # To Python $ also matches before a line's end, to RE2 it does not.
    return st.from_regex(re.sub(r"\$$", r"\\Z", pattern))
