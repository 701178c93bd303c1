"""Pods to be injected, of any form that the API server takes."""

from typing import Any

from hypothesis import strategies as st

from embedding_contract import names
from tests.parts import pods as cases

Pod = dict[str, Any]
IMAGE = "registry.example/app:1"
AMOUNTS = ("100m", "1", "1000m", "250m")
MEMORY = ("128Mi", "1Gi", "1024Mi")
KEYS = ("app", "tier", "team")
VALUES = ("search", "batch", "a")


def container(name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, **more}


def pod(*containers: dict[str, Any], labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    """A pod of these containers."""
    metadata: dict[str, Any] = {"generateName": "p-"}
    if labels is not None:
        metadata["labels"] = labels
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": list(containers), **spec},
    }


def _annotated(made: Pod, **annotations: str) -> Pod:
    return {**made, "metadata": {**made["metadata"], "annotations": annotations}}


_PORT = {"containerPort": names.ADMIN_PORT}
_NAMED = {"containerPort": 80, "name": names.ADMIN_PORT_NAME}
_EMPTY = {"name": names.VOLUME_DOCUMENT, "emptyDir": {}}
REFUSED_BY: dict[str, list[Pod]] = {
    "not-on-host-network": [pod(container(), hostNetwork=True)],
    "not-on-windows": [
        pod(container(), os={"name": "windows"}),
        pod(container(), nodeSelector={"kubernetes.io/os": "windows"}),
        pod(container(), nodeSelector={"beta.kubernetes.io/os": "windows"}),
    ],
    # It must be bound to a node.
    "not-a-mirror": [
        _annotated(
            pod(container(), nodeName="n", automountServiceAccountToken=False),
            **{"kubernetes.io/config.mirror": "8f1c"},
        )
    ],
    "names-are-free": [
        pod(container(names.CONTAINER)),
        pod(container(), initContainers=[container(names.CONTAINER)]),
        pod(container(ports=[_PORT])),
        pod(container(), initContainers=[container("first", ports=[_NAMED])]),
        pod(container(), volumes=[_EMPTY]),
    ],
    "selected": [pod(container(), labels={names.LABEL_POLICY: "other"})],
}
"""By each match condition, the pods that it alone lets through no further."""

_SELECTORS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "by-expressions",
        {
            "matchExpressions": [
                {"key": "app", "operator": "In", "values": ["search", "a"]},
                {"key": "tier", "operator": "NotIn", "values": ["batch"]},
                {"key": "team", "operator": "DoesNotExist"},
            ]
        },
        {"sidecar": {"resources": {"limits": {"cpu": 1, "memory": "256Mi"}}}},
    ),
    (
        "by-labels",
        {
            "matchLabels": {"team": "a"},
            "matchExpressions": [{"key": "app", "operator": "Exists"}],
        },
        {
            "providers": [{"azure": {"tenantID": "t"}}],
            "sidecar": {"resources": {"requests": {"cpu": "2", "memory": "x"}}},
        },
    ),
    ("rest", {}, {}),
]
POLICIES: list[dict[str, Any]] = [
    {
        **cases.POLICY,
        "metadata": {"name": name, "creationTimestamp": f"2026-01-0{number}T00:00:00Z"},
        "spec": {"podSelector": selector, **more},
    }
    for number, (name, selector, more) in enumerate(_SELECTORS, start=1)
]


def many_policies(number: int) -> list[dict[str, Any]]:
    """Policies by one label each, the oldest first."""
    return [
        {
            **cases.POLICY,
            "metadata": {
                "name": f"policy-{it}",
                "creationTimestamp": f"2026-01-01T{it // 60:02}:{it % 60:02}:00Z",
            },
            "spec": {"podSelector": {"matchLabels": {"team": f"policy-{it}"}}},
        }
        for it in range(number)
    ]


def has(found: Any, wanted: Any) -> bool:
    """True if `found` has all of `wanted`, and what the API server sets besides."""
    if isinstance(wanted, dict):
        return all(key in found and has(found[key], it) for key, it in wanted.items())
    if isinstance(wanted, list):
        # The token of the pod's account is mounted into every container.
        return all(has(one, other) for one, other in zip(found, wanted, strict=False))
    return bool(found == wanted)


_VARIABLES: list[dict[str, Any]] = [
    {"name": "HTTP_PROXY", "value": "http://proxy:3128"},
    {"name": "https_proxy", "value": "http://proxy:3128"},
    {"name": "NO_PROXY", "value": "example.com"},
    {"name": "no_proxy", "value": "127.0.0.1"},
    {"name": "OPENAI_BASE_URL", "value": "http://own/v1"},
    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
]
_ENV = st.lists(st.sampled_from(_VARIABLES), max_size=3, unique_by=lambda it: str(it["name"]))
_SOURCES = st.lists(
    st.sampled_from(
        [
            {"configMapRef": {"name": "own"}},
            {"secretRef": {"name": "own", "optional": True}},
            {"prefix": "X_", "configMapRef": {"name": "embedding-rest-environment"}},
        ]
    ),
    max_size=2,
)
_QUANTITIES = st.fixed_dictionaries(
    {}, optional={"cpu": st.sampled_from(AMOUNTS), "memory": st.sampled_from(MEMORY)}
)
_RESOURCES = st.one_of(
    st.builds(lambda it: {"limits": it}, _QUANTITIES),
    st.builds(lambda it: {"requests": it}, _QUANTITIES),
    st.just({"limits": {"cpu": "1", "memory": "1Gi"}}),
    st.just({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}),
    st.just({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"memory": "512Mi"}}),
)
_CONTAINER = st.fixed_dictionaries(
    {"image": st.just(IMAGE)},
    optional={
        "env": _ENV,
        "envFrom": _SOURCES,
        "resources": _RESOURCES,
        "ports": st.just([{"containerPort": 8080, "name": "http"}]),
        "securityContext": st.just({"runAsUser": 0}),
    },
)


def _named(containers: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    return [{"name": f"{prefix}-{number}", **it} for number, it in enumerate(containers)]


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """A pod that the API server takes."""
    containers = draw(st.lists(_CONTAINER, min_size=1, max_size=4))
    inits = draw(st.lists(_CONTAINER, max_size=3))
    spec: dict[str, Any] = {"containers": _named(containers, "c")}
    if inits:
        spec["initContainers"] = _named(inits, "i")
        if draw(st.booleans()):
            spec["initContainers"][-1]["restartPolicy"] = "Always"
    if draw(st.booleans()):
        spec["volumes"] = [{"name": "own", "emptyDir": {}}]
    if draw(st.booleans()):
        spec["automountServiceAccountToken"] = False
    if draw(st.booleans()):
        named = draw(st.lists(st.sampled_from(["registry", "own"]), max_size=2, unique=True))
        spec["imagePullSecrets"] = [{"name": it} for it in named]
    user = draw(st.sampled_from([None, 0, 1000]))
    if user is not None:
        spec["securityContext"] = {"runAsUser": user}
    labels = draw(
        st.one_of(
            st.none(),
            st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=3),
            st.builds(
                lambda it: {names.LABEL_POLICY: it},
                st.sampled_from([it["metadata"]["name"] for it in POLICIES] + ["absent"]),
            ),
        )
    )
    return pod(*spec.pop("containers"), labels=labels, **spec)
