"""Write what is generated from its single source, or check that it is as written.

python -m docs.generate          writes reference pages, dashboards, mixin and rules
python -m docs.generate --check  exits 1 and names the file that is out of date
"""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from dashboards import mixin
from docs import alert_pages, models_page
from embedding_contract import metrics
from embedding_operator.injection import expressions

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CRDS = ROOT / "crds"
NOTICE = "<!-- Written by `make generate` from {source}. Edit that, not this. -->\n\n"


def metrics_page() -> str:
    """The metric catalogue as tables."""
    lines = [NOTICE.format(source="sidecar/embedding_contract/metrics.py"), "# Metrics\n\n"]
    for title, catalogue in (
        ("Sidecar", metrics.SIDECAR),
        ("Operator", metrics.OPERATOR),
        ("Search and backfill, in pods of an index", metrics.VECTORS),
    ):
        lines.append(f"## {title}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n")
        for metric in catalogue:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n")
        lines.append("\n")
    return "".join(lines).rstrip("\n") + "\n"


def resource_page(file: str) -> str:
    """Every field of a resource with its type, default, bounds and description."""
    crd = yaml.safe_load((CRDS / file).read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    kind = crd["spec"]["names"]["kind"]
    lines = [NOTICE.format(source=f"crds/{file}"), f"# {kind}\n\n"]
    lines.append(f"{_sentence(schema)}\n\n")
    for section in ("spec", "status"):
        lines.append(f"## {section}\n\n| field | type | default | meaning |\n|---|---|---|---|\n")
        for path, field, required in _fields(schema["properties"][section], ""):
            name = f"`{path}`" + (" (required)" if required else "")
            lines.append(f"| {name} | {_type(field)} | {_default(field)} | {_sentence(field)} |\n")
        lines.append("\n")
    lines.append("## Rules\n\nThe API server refuses, beyond types and bounds:\n\n")
    lines.extend(f"- {rule}\n" for rule in _rules(schema, ""))
    return "".join(lines)


def _fields(schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in required
        if "items" in field:
            yield from _fields(field["items"], f"{path}[].")
        else:
            yield from _fields(field, f"{path}.")


def _type(field: dict[str, Any]) -> str:
    if field.get("x-kubernetes-preserve-unknown-fields"):
        return "any"
    # An int-or-string field, such as a quantity, has no type of its own.
    kind = str(field.get("type", "integer or string"))
    if kind == "array":
        kind = f"list of {field['items']['type']}"
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None or high is not None:
        return f"{kind}, {'' if low is None else low} to {'' if high is None else high}"
    for bound, unit in (("maxLength", "characters"), ("maxItems", "items")):
        if bound in field:
            return f"{kind}, at most {field[bound]} {unit}"
    return kind


def _default(field: dict[str, Any]) -> str:
    return (
        f"`{yaml.safe_dump(field['default'], default_flow_style=True).splitlines()[0]}`"
        if ("default" in field)
        else ""
    )


def _sentence(field: dict[str, Any]) -> str:
    return " ".join(str(field.get("description", "")).split()).replace("|", "\\|")


def _rules(schema: dict[str, Any], path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        message = " ".join(rule["message"].split())
        yield f"`{path}`: {message}" if path else message
    for name, field in schema.get("properties", {}).items():
        yield from _rules(field, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from _rules(schema["additionalProperties"], f"{path}.*")


def injection_expressions() -> str:
    """The CEL by which the API server injects, for the chart."""
    notice = "# Written by `make generate` from operator/embedding_operator/injection. Edit that.\n"
    written = {
        "matchConditions": expressions.match_conditions(),
        "variables": expressions.variables(),
        "mutation": expressions.mutation(),
    }
    return notice + yaml.safe_dump(written, sort_keys=False, width=100)


PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics_page,
    "resource.md": functools.partial(resource_page, "embeddingpolicies.yaml"),
    "resource-index.md": functools.partial(resource_page, "embeddingindexes.yaml"),
    "resource-provider.md": functools.partial(resource_page, "clusterembeddingproviders.yaml"),
}


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file and its text."""
    for name, page in PAGES.items():
        yield DOCS / name, page()
    yield ROOT / "charts/embedding-operator/files/injection.yaml", injection_expressions()
    yield from mixin.files()
    yield from alert_pages.files()
    notice = NOTICE.format(source="sidecar/embedding_contract/models.py")
    yield DOCS / "models.md", notice + models_page.text()


def main(arguments: list[str]) -> int:
    """Write or check every file; the exit code."""
    stale = []
    for path, text in files():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path.relative_to(ROOT)))
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run `make generate`", file=sys.stderr)
        return 1
    for name in stale:
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
