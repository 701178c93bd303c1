"""The index document for the pods of an index, out of the index and its policy: pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from embedding_contract import document, index_document, spaces
from embedding_operator import errors
from embedding_operator.indexes.resource import EmbeddingIndex, Target

Object = Mapping[str, Any]


def of(
    index: EmbeddingIndex, policy: document.PolicyDocument, *, seen: Sequence[Object] = ()
) -> index_document.IndexDocument:
    """The index document; `seen` are the targets in the database, from the status.

    Raises:
        errors.InvalidPolicy: with reason ModelMissing, SizesDiffer, SpacesEqual or SpacesDiffer.
    """
    target = _target(index.target, policy, "spec.target")
    failover = None
    if index.failover_target is not None:
        failover = _target(index.failover_target, policy, "spec.failoverTarget")
        if failover.space == target.space:
            raise errors.InvalidPolicy(
                "spec.failoverTarget",
                f"{failover.model} makes vectors of space {failover.space} like the target's model;"
                " they can be compared with the target's vectors, so remove failoverTarget",
                reason="SpacesEqual",
            )
    made = index_document.IndexDocument(
        namespace=index.namespace,
        name=index.name,
        uid=index.uid,
        policy=index.policy,
        schema=index.schema,
        table=index.table,
        key_columns=index.key_columns,
        text_columns=index.text_columns,
        target=target,
        failover_target=failover,
        rows=index.rows,
        limits=index.limits,
        search=None if index.search is None else index.search.document,
        applies_plan=index.applies_plan,
        trigger=index.trigger,
        drops=index.drops,
    )
    for wanted in (target, failover):
        if wanted is not None:
            _check_seen(wanted, made.target_id(wanted), seen)
    return made


def missing_models(
    index: EmbeddingIndex,
    policy: document.PolicyDocument,
    *,
    seen: Sequence[Object],
    serving: str | None,
) -> tuple[str, ...]:
    """The models that the index needs and no provider of the policy answers to.

    The index needs the models of its targets, and that of the target in use, which embeds queries
    until another takes over.
    """
    needed = [it.model for it in (index.target, index.failover_target) if it is not None]
    needed += [str(it["model"]) for it in seen if it["id"] == serving]
    return tuple(it for it in dict.fromkeys(needed) if _provider(policy, it) is None)


def _target(wanted: Target, policy: document.PolicyDocument, path: str) -> index_document.Target:
    provider = _provider(policy, wanted.model)
    if provider is None:
        there = ", ".join(it.model for it in policy.providers)
        raise errors.InvalidPolicy(
            f"{path}.model",
            f"no provider of policy {policy.name} answers to {wanted.model}; there are: {there}",
            reason="ModelMissing",
        )
    size = provider.dimensions
    if size is None and not wanted.request_dimensions:
        size = spaces.default_dimensions(kind=provider.kind, model=provider.model)
    if size is not None and size != wanted.dimensions:
        raise errors.InvalidPolicy(
            f"{path}.dimensions",
            f"is {wanted.dimensions}, but {wanted.model} of policy {policy.name} makes vectors of"
            f" {size} numbers",
            reason="SizesDiffer",
        )
    return index_document.Target(
        model=wanted.model,
        dimensions=wanted.dimensions,
        space=provider.space(wanted.dimensions if wanted.request_dimensions else None),
        column=wanted.column,
        table=wanted.table,
        request_dimensions=wanted.request_dimensions,
    )


def _provider(policy: document.PolicyDocument, model: str) -> document.Provider | None:
    return next((it for it in policy.providers if it.answers_to(model)), None)


def _check_seen(wanted: index_document.Target, name: str, seen: Sequence[Object]) -> None:
    """Refuse vectors of another space for a target that is filled already."""
    for there in seen:
        is_filled = there["phase"] != "Planned"
        if there["id"] == name and is_filled and there["space"] != wanted.space:
            raise errors.InvalidPolicy(
                "spec.target",
                f"{name} holds vectors of space {there['space']}, but {wanted.model} makes vectors"
                f" of space {wanted.space}; name another column or table, to be filled beside it",
                reason="SpacesDiffer",
            )
