"""The `.spec` of an EmbeddingIndex as values, after the API server has set defaults.

The schema in crds/ holds shape, bounds and defaults; this module adds types. It checks only the
values of `spec.rows`, which have no type in the schema.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedding_contract import index_document, names
from embedding_contract.index_document import Condition, Limits
from embedding_contract.json_fields import InvalidDocument
from embedding_operator import errors
from embedding_operator.kube import ownership
from embedding_operator.policy.reference import SecretReference

VALUE_CHARACTERS: Final = 256
VALUES: Final = 64
DROPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`spec.target` or `spec.failoverTarget`, with either `column` or `table`."""

    model: str
    dimensions: int
    request_dimensions: bool
    column: str | None
    table: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """`spec.search`; `resources` None is the chart's."""

    replicas: int
    document: index_document.Search
    resources: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingIndex(ownership.Owner):
    """A whole index; `search` is None if the table is not searched."""

    kind = names.INDEX_KIND
    label = names.LABEL_INDEX
    generation: int
    created_at: str
    policy: str
    dsn: SecretReference
    authority: SecretReference | None
    schema: str
    table: str
    key_columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    target: Target
    failover_target: Target | None
    rows: tuple[Condition, ...]
    limits: Limits
    schedule: str | None
    applies_plan: bool
    trigger: bool
    search: Search | None
    drops: tuple[str, ...]

    @property
    def target_id(self) -> str:
        """The name of its target in the database."""
        return index_document.target_id(
            self.schema, self.table, column=self.target.column, own_table=self.target.table
        )


def parse(raw: Mapping[str, Any]) -> EmbeddingIndex:
    """An index from its object.

    Raises:
        errors.InvalidPolicy: a field does not match the schema, or a value of `spec.rows` cannot
            be compared.
    """
    try:
        return _parse(raw["metadata"], raw["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise errors.InvalidPolicy("spec", f"does not match the schema: {error!r}") from None
    except InvalidDocument as error:
        raise errors.InvalidPolicy("", str(error)) from None


def _parse(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> EmbeddingIndex:
    table, limits, database = spec["table"], spec["limits"], spec["database"]
    failover, authority = spec.get("failoverTarget"), database.get("caSecretRef")
    return EmbeddingIndex(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        created_at=metadata.get("creationTimestamp", ""),
        policy=spec["policyRef"]["name"],
        dsn=SecretReference(**database["dsnSecretRef"]),
        authority=None if authority is None else SecretReference(**authority),
        schema=table["schema"],
        table=table["name"],
        key_columns=tuple(table["keyColumns"]),
        text_columns=tuple(table["textColumns"]),
        target=_target(spec["target"]),
        failover_target=None if failover is None else _target(failover),
        rows=tuple(
            _condition(entry, f"spec.rows[{index}]")
            for index, entry in enumerate(spec.get("rows", ()))
        ),
        limits=Limits(
            requests_per_minute=limits.get("maxRequestsPerMinute"),
            batch_rows=limits["batchRows"],
            workers=limits["workers"],
            text_bytes=limits["maxTextBytes"],
        ),
        schedule=spec.get("schedule"),
        applies_plan=spec["applyPlan"],
        trigger=spec["trigger"],
        search=_search(spec["search"]),
        drops=_drops((metadata.get("annotations") or {}).get(names.ANNOTATION_DROP_TARGET, "")),
    )


def _target(entry: Mapping[str, Any]) -> Target:
    return Target(
        model=entry["model"],
        dimensions=entry["dimensions"],
        request_dimensions=entry["requestDimensions"],
        column=entry.get("column"),
        table=entry.get("table"),
    )


def _search(entry: Mapping[str, Any]) -> Search | None:
    if not entry["enabled"]:
        return None
    return Search(
        replicas=entry["replicas"],
        document=index_document.Search(
            filter_columns=tuple(entry.get("filterColumns", ())),
            return_columns=tuple(entry.get("returnColumns", ())),
            text_configuration=entry["textConfiguration"],
            statement_timeout_milliseconds=entry["statementTimeoutMilliseconds"],
        ),
        resources=entry.get("resources"),
    )


def _condition(entry: Mapping[str, Any], path: str) -> Condition:
    made = index_document.condition(entry, path)
    values = made.value if isinstance(made.value, tuple) else (made.value,)
    if len(values) > VALUES:
        raise errors.InvalidPolicy(f"{path}.value", f"must have at most {VALUES} items")
    if made.operator == "between" and len(values) != 2:  # noqa: PLR2004 - both ends
        raise errors.InvalidPolicy(f"{path}.value", "must be a list of two")
    if any(isinstance(it, str) and len(it) > VALUE_CHARACTERS for it in values):
        message = f"must have strings of at most {VALUE_CHARACTERS} characters"
        raise errors.InvalidPolicy(f"{path}.value", message)
    return made


def _drops(annotation: str) -> tuple[str, ...]:
    """The targets that the user wants dropped."""
    named = dict.fromkeys(it.strip() for it in annotation.split(","))
    return tuple(it for it in named if it)[:DROPS]
