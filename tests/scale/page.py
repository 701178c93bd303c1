"""docs/scale.md and its chart, from the results."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks import chart
from tests.benchmarks.page import table
from tests.scale import ranges, results
from tests.scale.figures import FIGURES, Figure, Result, median
from tests.scale.model import parts, section
from tests.scale.model.cluster import CHART_LIMIT_MIB

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "scale.md"
CHART: Final = DOCS / "scale-cold-start.svg"
GROWN: Final = 1.15
"""An exponent above it is more than the noise of some rounds."""
SHARE: Final = 0.9
"""Of the chart's limit: beyond it the next peak may be the end."""
GROWING: Final = (
    *("coldSeconds", "coldRequestsOfPolicy", "coldProcessorMillisecondsOfPolicy"),
    *("editP99Seconds", "mostResidentMiB", "serverResidentMiB", "idleCorePercent"),
)
_OF_POLICY: Final = ("coldRequestsOfPolicy", "coldProcessorMillisecondsOfPolicy")

Ranges = Mapping[str, Sequence[ranges.Range]]


def write(allowed: Ranges) -> None:
    """Write the page and the chart, of all that was kept."""
    found = results.read_all()
    PAGE.write_text(text(found, allowed, model=parts.read_all()), encoding="utf-8")
    CHART.write_text(cold_start_chart(found), encoding="utf-8")


def text(found: Sequence[Result], allowed: Ranges, *, model: Sequence[parts.Part] = ()) -> str:
    """The page."""
    return _PAGE.format(
        aims=_aims(found, allowed),
        tables=tables(found, allowed),
        grown=_grown(found),
        memory=_memory(found),
        chart=CHART.name,
        model=section.text(model),
    )


def tables(found: Sequence[Result], allowed: Ranges) -> str:
    """One table for each result."""
    return "\n\n".join(_table(it, allowed.get(it.generator.name, ())) for it in found)


def _table(result: Result, of: Sequence[ranges.Range]) -> str:
    by_figure = {it.figure: it for it in of}
    rows = [
        _row(figure, result, by_figure.get(name))
        for name, figure in FIGURES.items()
        if figure.values(result)
    ]
    made = result.generator
    size = [f"{made.policies:,} policies in {made.namespaces} namespaces"]
    size += [f"{made.secrets:,} Secrets of Vault"] if made.secrets else []
    size += [f"{made.pods:,} pods"] if made.pods else []
    busy = f", **busy**: {_load(result)}" if result.is_busy else f"; {_load(result)}"
    count = len(result.rounds)
    return (
        f"### {made.name}\n\n{', '.join(size)}; {result.date}, commit {result.commit or 'unknown'},"
        f" {count} round{'s' * (count > 1)} on {result.machine}{busy}.\n\n"
        + table(("", "aim", "measured", "spread", "bare client", ""), rows)
        + "\n\n"
        + _requests(result)
    )


def _row(figure: Figure, result: Result, of: ranges.Range | None) -> tuple[str, ...]:
    values, ceilings = figure.values(result), figure.ceilings(result)
    aim = "" if of is None or of.aim is None else figure.shown(of.aim)
    spread = f"{figure.shown(values[0])} to {figure.shown(values[-1])}" if len(values) > 1 else ""
    ceiling = figure.shown(median(ceilings)) if ceilings else ""
    verdict = "" if of is None else of.verdict(result)
    return (figure.title, aim, figure.shown(median(values)), spread, ceiling, _marked(verdict))


def _marked(verdict: str) -> str:
    return "**missed**" if verdict == "missed" else verdict


def _load(result: Result) -> str:
    loads = sorted(it.load for it in result.rounds)
    return f"load {loads[0]:.1f} to {loads[-1]:.1f} as the rounds began"


def _requests(result: Result) -> str:
    """The requests of the last round by verb and resource."""
    last = result.rounds[-1]
    names = sorted(
        {*last.cold_requests, *last.idle_requests},
        key=lambda it: (-last.cold_requests.get(it, 0), it),
    )
    rows = [
        (name, f"{last.cold_requests.get(name, 0):,}", f"{last.idle_requests.get(name, 0):,}")
        for name in names
    ]
    head = ("request of the operator", "cold start", f"idle, {last.idle_seconds:.0f} s")
    return table(head, rows)


def _aims(found: Sequence[Result], allowed: Ranges) -> str:
    rows: list[tuple[str, ...]] = []
    by_name = {it.generator.name: it for it in found}
    for name, of in allowed.items():
        for one in of:
            if one.aim is None:
                continue
            figure = FIGURES[one.figure]
            result = by_name.get(name)
            if result is None:
                rows.append(
                    (f"{name}: {figure.title}", figure.shown(one.aim), *("",) * 3, "not run")
                )
                continue
            title, *rest = _row(figure, result, one)
            rows.append((f"{name}: {title}", *rest))
    return table(("", "aim", "measured", "spread", "bare client", ""), rows)


def _plain(found: Sequence[Result]) -> list[Result]:
    """Results without Vault and pods, which differ in size only."""
    return [it for it in found if not it.generator.secrets and not it.generator.pods]


def _grown(found: Sequence[Result]) -> str:
    """Exponents of growth between the smallest and the largest size without Vault."""
    plain = _plain(found)
    if len(plain) < 2:
        return "Two sizes at least are needed."
    first, last = plain[0], plain[-1]
    times = last.generator.policies / first.generator.policies
    rows = []
    for name in GROWING:
        figure = FIGURES[name]
        low, high = median(figure.values(first)), median(figure.values(last))
        of_all = times if name in _OF_POLICY else 1.0
        exponent = math.log(high * of_all / low) / math.log(times) if low > 0 and high > 0 else 0.0
        word = "**faster than n**" if exponent > GROWN else ""
        rows.append((figure.title, figure.shown(low), figure.shown(high), f"{exponent:.2f}", word))
    head = (
        "",
        f"{first.generator.policies:,} policies",
        f"{last.generator.policies:,} policies",
        "exponent",
        "",
    )
    return table(head, rows)


def _memory(found: Sequence[Result]) -> str:
    """From which size the chart's limit of memory is too small."""
    plain = _plain(found)
    if len(plain) < 2:
        return ""
    points = [
        (it.generator.policies, median(FIGURES["mostResidentMiB"].values(it))) for it in plain
    ]
    (low, least), (high, most) = points[0], points[-1]
    slope = (most - least) / (high - low)
    if slope <= 0:
        return "The operator's peak does not grow with the number of policies here."
    size = low + (CHART_LIMIT_MIB * SHARE - least) / slope
    return (
        f"At its peak the operator takes {slope * 1024:.0f} KiB for each policy, so"
        f" `resources.limits.memory` of the chart ({CHART_LIMIT_MIB}Mi) is"
        f" {SHARE:.0%} used at {size:,.0f} policies by these figures: raise it before."
    )


def cold_start_chart(found: Sequence[Result]) -> str:
    """Cold start over the number of policies, the bare client's beside it."""
    plain = _plain(found)
    lines = {
        "operator": [
            (it.generator.policies, median(FIGURES["coldSeconds"].values(it))) for it in plain
        ],
        "bare client": [
            (it.generator.policies, median(FIGURES["coldSeconds"].ceilings(it))) for it in plain
        ],
    }
    return chart.lines("Cold start to all Ready", lines, across="policies", up="seconds")


_PAGE: Final = """\
# Scale

Written by `make scale`, whose generators are `tests/scale/*.yaml`, from `tests/scale/results`;
`tests/scale/ranges.yaml` has the aims, and what fails a run. etcd, the API server, the controllers,
OpenBao, the measuring process and the operator share one machine; etcd has a quota of 8 GiB and
does not sync its file. The operator has the chart's settings and roles. The **bare client** is the
ceiling: in the same round, on the same API server and with as many connections as the operator has
workers, it lists the policies, applies the same ConfigMaps and Secrets and writes each status once.
It decides nothing, reads no Vault, and follows an edit by a watch. A measured value is the median
of the rounds, the spread their smallest and largest. Where the machine was **busy** as a round
began (its load above its cores) times are too high, of the bare client too.

## Aims

{aims}

Admission at 50 pods a second, by webhook and by policy beside none, is in
[benchmarks.md](benchmarks.md): `python -m tests.benchmarks.admissions --page`.

## Cold start over n

![cold start]({chart})

## What breaks first

An exponent of 1 is a figure that grows with the number of policies.

{grown}

{memory} Pods and Secrets come on top.

## The model to 100,000 pods

{model}
## Every run

{tables}
"""
