"""The rights in SECURITY.md and in the rendered chart; `python -m tests.parts.rights` writes them.

A right keeps its reason in the page; a new one has none, which a test refuses.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml

from tests.parts import helm
from tests.parts.installation import ROOT, SYSTEM_NAMESPACE

PAGE: Final = ROOT / "SECURITY.md"
HEADER: Final = "| role | may | what | and so |\n|---|---|---|---|\n"
EVERYTHING: Final[Mapping[str, Any]] = {
    "vault": {"address": "https://vault.example.com"},
    "rollouts": {"enabled": True},
    "vectors": {"enabled": True, "namespaces": ["shop"]},
}
"""Values with which the chart asks for every right that it ever asks for."""
_ROW: Final = re.compile(r"^\| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$")


class Right(NamedTuple):
    """The first three columns of a row."""

    role: str
    verbs: str
    what: str


def rendered() -> list[Right]:
    """The rules of all roles that the chart renders, in their order."""
    text = helm.Helm()(
        *("template", "embedding-operator", str(ROOT / "charts" / "embedding-operator")),
        *("--namespace", SYSTEM_NAMESPACE, "--kube-version", "1.37", "--values", "-"),
        stdin=json.dumps(EVERYTHING),
    )
    return [
        _right(found, rule)
        for found in yaml.safe_load_all(text)
        if found and found["kind"] in {"ClusterRole", "Role"}
        for rule in found["rules"] or ()
    ]


def _right(role: Mapping[str, Any], rule: Mapping[str, Any]) -> Right:
    namespace = role["metadata"].get("namespace")
    scope = "the cluster" if namespace is None else "its own namespace"
    if namespace not in {None, SYSTEM_NAMESPACE}:
        scope = "each named namespace"
    groups = [f".{it}" if it else "" for it in rule["apiGroups"]]
    what = ", ".join(f"`{it}{group}`" for group in groups for it in rule["resources"])
    named = ", ".join(f"`{it}`" for it in rule.get("resourceNames", ()))
    only = f", only {named}" if named else ""
    return Right(
        f"`{role['metadata']['name']}`, {scope}", ", ".join(rule["verbs"]), f"{what}{only}"
    )


def told() -> dict[Right, str]:
    """The rows of the page: what each right is for, or lets a person do."""
    return dict(_rows(PAGE.read_text(encoding="utf-8")))


def _rows(text: str) -> Iterator[tuple[Right, str]]:
    _, _, table = text.partition(HEADER)
    for line in table.splitlines():
        found = _ROW.match(line)
        if found is None:
            return
        yield Right(found[1], found[2], found[3]), found[4].strip()


def main() -> None:
    """Write the table with today's rights."""
    text = PAGE.read_text(encoding="utf-8")
    before, header, rest = text.partition(HEADER)
    reasons = dict(_rows(text))
    lines = rest.splitlines(keepends=True)
    after = "".join(lines[len(reasons) :])
    made = "".join(f"| {' | '.join(right)} | {reasons.get(right, '')} |\n" for right in rendered())
    PAGE.write_text(f"{before}{header}{made}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
