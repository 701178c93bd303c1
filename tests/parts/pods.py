"""Pods before and after admission, as files: `cases/pods/NAME.in.yaml` and `NAME.out.yaml`.

The first holds a Pod, and what stands around it where that matters: its Namespace, policies, the
server's version. The second holds the Pod as it is then created, or why it was left alone.
After a change that is meant, `python -m tests.parts.pods` writes the second ones; read the diff.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from embedding_contract import names
from embedding_operator.injection import injector, selection

FOLDER = Path(__file__).parents[1] / "contract" / "cases" / "pods"
SIDECAR = injector.Sidecar(
    image="registry.example/embedding-sidecar:1.0.0",
    pull_policy="IfNotPresent",
    resources={
        "requests": {"cpu": "25m", "memory": "96Mi"},
        "limits": {"cpu": "500m", "memory": "384Mi"},
    },
)
POLICY: dict[str, Any] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "search", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"podSelector": {}},
}
NAMESPACE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "shop", "labels": {names.LABEL_INJECTION: selection.ENABLED}},
}
SERVER_VERSION = (1, 37)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A pod and its surroundings."""

    name: str
    pod: dict[str, Any]
    namespace: dict[str, Any]
    policies: list[dict[str, Any]]
    server_version: tuple[int, int]

    def decide(self) -> selection.Decision:
        return selection.decide(
            self.pod,
            namespace_labels=self.namespace["metadata"].get("labels") or {},
            among=selection.candidates(self.policies),
            server_version=self.server_version,
        )

    def outcome(self) -> dict[str, Any]:
        """The pod as it is created, or `{skipped, message}`."""
        match self.decide():
            case selection.Skipped(reason, message):
                return {"skipped": reason, "message": message}
            case selection.Covered(candidate):
                return injector.inject(self.pod, sidecar=SIDECAR, candidate=candidate)

    @property
    def expected(self) -> dict[str, Any]:
        parsed: dict[str, Any] = yaml.safe_load(self.file.read_text(encoding="utf-8"))
        return parsed

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.out.yaml"


def cases() -> list[Case]:
    """All of them, by name."""
    return [_case(file) for file in sorted(FOLDER.glob("*.in.yaml"))]


def _case(file: Path) -> Case:
    documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        by_kind.setdefault(document["kind"], []).append(document)
    (pod,) = by_kind.pop("Pod")
    (namespace,) = by_kind.pop("Namespace", [NAMESPACE])
    (version,) = by_kind.pop("Version", [{"major": SERVER_VERSION[0], "minor": SERVER_VERSION[1]}])
    policies = by_kind.pop(names.KIND, [POLICY])
    if by_kind:
        raise ValueError(f"{file}: {', '.join(by_kind)} means nothing here")
    return Case(
        name=file.name.removesuffix(".in.yaml"),
        pod=pod,
        namespace=namespace,
        policies=policies,
        server_version=(version["major"], version["minor"]),
    )


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False, width=100), encoding="utf-8")


if __name__ == "__main__":
    for case in cases():
        _write(case.file, case.outcome())
