"""The documents that pods obey, and the objects of a policy: of one that sets all, and the least.

`given` holds a document of each kind with every key. What a reader does not know it ignores, so a
key whose name changed is missing from what is written again.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.golden import flat, held, sources, subjects

GIVEN = Path(__file__).parent / "given"
_CASES = sources.ROOT / "tests" / "contract" / "cases" / "good"
_INDEXES = _CASES.with_name("index-good")
POLICIES = {"everything": _CASES / "everything.yaml", "least": _CASES / "smallest.yaml"}
TOLD = ("annotations",)
"""Texts of alerts, which may be said better; their keys are held apart."""


def texts() -> held.Texts:
    """A file for each document, and one for the objects of each policy."""
    made = {
        f"document-{kind}.json": again((GIVEN / f"{kind}.json").read_bytes())
        for kind, again in subjects.DOCUMENTS.items()
    }
    for word, file in POLICIES.items():
        made[f"document-of-{word}.json"] = _rendered(file, "--document")
        objects = yaml.safe_load_all(_rendered(file))
        made[f"objects-of-{word}.txt"] = held.lines(line for it in objects for line in _object(it))
    indexes = subjects.index_objects((_INDEXES / "everything.yaml").read_bytes())
    made["objects-of-an-index.txt"] = held.lines(line for it in indexes for line in _object(it))
    made["pod.txt"] = held.lines(flat.paths(subjects.injected_pod()))
    return made


def _rendered(file: Path, *flags: str) -> str:
    command = [str(subjects.OPERATOR), "render", str(file), *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _object(found: dict[str, Any]) -> Iterator[str]:
    at = f"{found['kind']}/{found['metadata']['name']}"
    if found["kind"] == "PrometheusRule":
        yield from flat.paths(found["metadata"], at=f"{at}: metadata")
        for group in found["spec"]["groups"]:
            for rule in group["rules"]:
                of = f"{at}: {group['name']} {rule.get('alert') or rule['record']}"
                yield from (f"{of}: annotation {it}" for it in rule.get("annotations", ()))
                yield from flat.paths(rule, left_out=TOLD, at=f"{of}: ")
        return
    # The document is held by itself.
    yield from flat.paths(found, left_out=("document.json", "index.json"), at=at)
    for name in found.get("data", {}):
        yield f"{at}: data {name}"
