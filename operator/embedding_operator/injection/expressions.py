"""CEL for a MutatingAdmissionPolicy that injects as `injector` does, from the same tables: pure.

The API server evaluates it with a pod as `object` and the namespace's EmbeddingInjection as
`params`. Decisions are those of `selection`. The chart adds the variable `image`.

One mutation: of several, one that fails is skipped alone, and leaves a pod half injected. Values
are inserted by path: CEL cannot put back an item of a list that is there.
"""

import json
from collections.abc import Iterable
from typing import Any, Final

from embedding_contract import names
from embedding_operator.injection import bypasses, fields, resources, selection
from embedding_operator.injection.templates import Term, express

_LABELS: Final = "has(object.metadata.labels) ? object.metadata.labels : {}"
_ANNOTATIONS: Final = "has(object.metadata.annotations) ? object.metadata.annotations : {}"
_INITS: Final = "has(object.spec.initContainers) ? object.spec.initContainers : []"
_LISTS: Final = ("initContainers", "containers")


def _text(value: str) -> str:
    """A string of CEL."""
    return json.dumps(value)


def _texts(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _carries(labels: str, annotations: str, inits: str) -> str:
    """`selection.carries_sidecar`."""
    return (
        f"{_text(names.LABEL_INJECTED)} in {labels}"
        f" && {_text(names.ANNOTATION_SIDECAR_HASH)} in {annotations}"
        f" && {inits}.exists(c, c.name == {_text(names.CONTAINER)})"
    )


def _selects(policy: str, labels: str) -> str:
    """`selection.selects`, and the choice of the pod's author."""
    asked, index = _text(names.LABEL_POLICY), _text(names.LABEL_INDEX)
    expressions = (
        f"e.operator == 'In' ? e.key in {labels} && {labels}[e.key] in e.values"
        f" : e.operator == 'NotIn' ? !(e.key in {labels} && {labels}[e.key] in e.values)"
        f" : e.operator == 'Exists' ? e.key in {labels}"
        f" : e.operator == 'DoesNotExist' && !(e.key in {labels})"
    )
    return (
        f"({asked} in {labels} ? {labels}[{asked}] == {policy}.name : !({index} in {labels}))"
        f" && ({index} in {labels}"
        f" || (!has({policy}.podSelector.matchLabels)"
        f" || {policy}.podSelector.matchLabels.all(k,"
        f" k in {labels} && {labels}[k] == {policy}.podSelector.matchLabels[k]))"
        f" && (!has({policy}.podSelector.matchExpressions)"
        f" || {policy}.podSelector.matchExpressions.all(e, {expressions})))"
    )


def _is_free() -> str:
    """No name or port that the sidecar needs is taken, or it is the sidecar that has them."""
    ports = f"[{', '.join(map(str, selection.PORTS))}]"
    containers = " && ".join(
        f"(!has(object.spec.{kind}) || object.spec.{kind}.all(c,"
        f" c.name != {_text(names.CONTAINER)} && (!has(c.ports) || c.ports.all(p,"
        f" !(p.containerPort in {ports})"
        f" && !(has(p.name) && p.name == {_text(names.ADMIN_PORT_NAME)})))))"
        for kind in selection.CONTAINER_LISTS
    )
    volumes = (
        "(!has(object.spec.volumes)"
        f" || object.spec.volumes.all(v, !(v.name in {_texts(selection.VOLUMES)})))"
    )
    carries = _carries(f"({_LABELS})", f"({_ANNOTATIONS})", f"({_INITS})")
    return f"{containers} && {volumes} || {carries}"


def _is_windows() -> str:
    node = (
        f"{_text(label)} in object.spec.nodeSelector"
        f" && object.spec.nodeSelector[{_text(label)}] == 'windows'"
        for label in selection.OS_LABELS
    )
    return (
        "has(object.spec.os) && object.spec.os.name == 'windows'"
        f" || has(object.spec.nodeSelector) && ({' || '.join(node)})"
    )


def match_conditions() -> list[dict[str, str]]:
    """The pods that are injected, in the namespace's EmbeddingInjection."""
    chosen = _selects("p", "labels")
    conditions = {
        "not-on-host-network": "!has(object.spec.hostNetwork) || !object.spec.hostNetwork",
        "not-on-windows": f"!({_is_windows()})",
        "not-a-mirror": f"!({_text(selection.MIRROR)} in ({_ANNOTATIONS}))",
        "names-are-free": _is_free(),
        "selected": (f"[{_LABELS}].exists(labels, params.spec.policies.exists(p, {chosen}))"),
    }
    return [{"name": name, "expression": it} for name, it in conditions.items()]


def variables() -> list[dict[str, str]]:
    """Named parts of the mutation; `image` is the chart's."""
    given = {
        "labels": _LABELS,
        "annotations": _ANNOTATIONS,
        "inits": _INITS,
        "carries": _carries("variables.labels", "variables.annotations", "variables.inits"),
        # The oldest of them comes first.
        "chosen": f"params.spec.policies.filter(p, {_selects('p', 'variables.labels')})[0]",
        "policy": (
            f"variables.carries ? variables.labels[{_text(names.LABEL_INJECTED)}]"
            " : variables.chosen.name"
        ),
        "guaranteed": _is_guaranteed(),
        "resources": _resources(),
        "pullSecrets": (
            "has(params.spec.sidecar.pullSecrets)"
            " ? params.spec.sidecar.pullSecrets.filter(name, !has(object.spec.imagePullSecrets)"
            " || !object.spec.imagePullSecrets.exists(s, has(s.name) && s.name == name)) : []"
        ),
        "environment": express(fields.ENVIRONMENT, _names_of_objects()),
    }
    return [{"name": name, "expression": it} for name, it in given.items()]


def _is_guaranteed() -> str:
    """True if the pod without the sidecar is of QoS class Guaranteed, as in `resources.fit`."""
    fixed = " && ".join(
        f"{name} in c.resources.limits && (!has(c.resources.requests)"
        f" || !({name} in c.resources.requests)"
        f" || quantity(string(c.resources.requests[{name}]))"
        f".compareTo(quantity(string(c.resources.limits[{name}]))) == 0)"
        for name in map(_text, resources.GUARANTEED)
    )
    every = f".all(c, has(c.resources) && has(c.resources.limits) && {fixed})"
    return f"object.spec.containers{every} && variables.inits{every}"


def _resources() -> str:
    budget = " || ".join(
        f"has(object.spec.resources.{it})" for it in ("limits", "requests", "claims")
    )
    own = "variables.chosen"
    chart = "params.spec.sidecar"
    return (
        f"has(object.spec.resources) && ({budget}) ? dyn({{}})"
        f" : variables.guaranteed"
        f" ? (has({own}.guaranteed) ? {own}.guaranteed : {chart}.guaranteed)"
        f" : (has({own}.resources) ? {own}.resources : {chart}.resources)"
    )


def _names_of_objects() -> dict[str, str]:
    """The terms that name objects of the policy."""

    def named(term: str) -> str:
        before, after = fields.OBJECTS[term]("\0").split("\0")
        return " + ".join([_text(before), "variables.policy", *([_text(after)] if after else [])])

    return {term: named(term) for term in fields.OBJECTS}


def mutation() -> str:
    """A list of JSONPatch: what `injector.inject` changes, or nothing."""
    pod = "object.spec"
    terms = {
        "image": "variables.image",
        "pull_policy": "params.spec.sidecar.imagePullPolicy",
        "collector": "params.spec.sidecar.otelEndpoint",
        "has_collector": "has(params.spec.sidecar.otelEndpoint)",
        "resources": "variables.resources",
        "is_root": (
            f"(has({pod}.securityContext) && has({pod}.securityContext.runAsUser)"
            f" && {pod}.securityContext.runAsUser == 0)"
        ),
        "has_identity": "(has(variables.chosen.identity) && variables.chosen.identity)",
        "policy": "variables.policy",
        "hash": "variables.chosen.hash",
        **_names_of_objects(),
    }
    environment = [it for kind in _LISTS for it in _environment_of(kind)]
    first = f"[{express(fields.SIDECAR, terms)}]"
    volumes = express(fields.VOLUMES, terms)
    added = [
        _absent("/spec/initContainers", f"{pod}.initContainers", "[]"),
        f"{first}.map(it, {_operation(_text('/spec/initContainers/0'), 'it')})",
        _absent("/spec/volumes", f"{pod}.volumes", "[]"),
        f"({volumes}).map(it, {_operation(_text('/spec/volumes/-'), 'it')})",
        *_pull_secrets(),
        *_of_metadata("labels", fields.LABELS, terms),
        *_of_metadata("annotations", fields.ANNOTATIONS, terms),
    ]
    skipped = _of_metadata(
        "annotations",
        {names.ANNOTATION_SIDECAR_SKIPPED: Term("reason")},
        {"reason": "variables.chosen.skipped"},
    )
    # The environment first, by the indexes that the containers have before the sidecar is there.
    return (
        "!variables.carries && has(variables.chosen.skipped)"
        f" ? {' + '.join(skipped)}"
        f" : {' + '.join(environment)} + (variables.carries ? [] : {' + '.join(added)})"
    )


def _pull_secrets() -> list[str]:
    """Operations for the chart's Secrets that the pod does not name itself."""
    field, path = "object.spec.imagePullSecrets", "/spec/imagePullSecrets"
    added = express(fields.PULL_SECRET, {"pull_secret": "name"})
    nothing = f"has({field}) || size(variables.pullSecrets) == 0"
    return [
        f"({nothing} ? [] : [{_operation(_text(path), '[]')}])",
        f"variables.pullSecrets.map(name, {_operation(_text(f'{path}/-'), added)})",
    ]


def _environment_of(kind: str) -> list[str]:
    """Operations for the environment of the ordinary containers of a list."""
    of = "variables.inits" if kind == "initContainers" else f"object.spec.{kind}"
    path = f"{_text(f'/spec/{kind}/')} + string(i)"
    ordinary = "!(has(c.restartPolicy) && c.restartPolicy == 'Always') && "
    only = ordinary if kind == "initContainers" else ""
    ours = fields.ENVIRONMENT["configMapRef"]["name"]
    name = express(ours, _names_of_objects())
    lacking = (
        f"{only}!(has(c.envFrom) && c.envFrom.exists(f,"
        f" has(f.configMapRef) && has(f.configMapRef.name) && f.configMapRef.name == {name}))"
    )
    reference = "variables.environment"
    given = _operation(
        f"{path} + (has(c.envFrom) ? '/envFrom/0' : '/envFrom')",
        f"has(c.envFrom) ? dyn({reference}) : dyn([{reference}])",
    )
    detoured = (
        f"{only}has(c.env) && c.env.exists(e, e.name in {_texts(bypasses.PROXIES)})"
        f" && !c.env.exists(e, e.name in {_texts(bypasses.EXCEPTIONS)})"
    )
    return [
        f"{of}.transformList(i, c, {lacking}, {given})",
        *(
            f"{of}.transformList(i, c, {detoured},"
            f" {_operation(path + ' + ' + _text('/env/-'), express(dict(it), {}))})"
            for it in bypasses.ADDED
        ),
    ]


def _of_metadata(kind: str, added: dict[str, Any], terms: dict[str, str]) -> list[str]:
    paths = {key: _text(f"/metadata/{kind}/{_escaped(key)}") for key in added}
    return [
        _absent(f"/metadata/{kind}", f"object.metadata.{kind}", "{}"),
        *(f"[{_operation(paths[key], express(it, terms))}]" for key, it in added.items()),
    ]


def _absent(path: str, field: str, empty: str) -> str:
    return f"(has({field}) ? [] : [{_operation(_text(path), empty)}])"


def _operation(path: str, value: str) -> str:
    return f'JSONPatch{{op: "add", path: {path}, value: {value}}}'


def _escaped(key: str) -> str:
    """A key in a JSON Pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
