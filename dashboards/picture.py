"""A dashboard as one SVG, drawn from its file and what Prometheus answers to its queries.

This is not Grafana, and the picture says so: it shows that the queries find what they should.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH, CELL, ROW, GAP, HEAD = 1200, 50, 30, 8, 74
NO_DATA: Final = "no data yet"
NOTE: Final = (
    "Drawn by embedding-operator from its dashboard file and Prometheus's answers. Not Grafana."
)
_COLOURS: Final = ("#3452c4", "#b4540a", "#0a7248", "#8b3fb8", "#a61e4d", "#566173")
_INK, _MUTED, _LINE, _SURFACE, _GROUND = "#141a24", "#566173", "#dfe3e9", "#ffffff", "#f5f6f8"
_SERIES_SHOWN: Final = 6
_NUMBERS_SHOWN: Final = 3
_SMALLEST_USD: Final = 0.0001
_WHOLE_FROM: Final = 100
"""Numbers as great are written without decimals."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one series: seconds since 1970, and the value."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


Ask = Callable[[str], Sequence[Series]]
"""The answer to an expression whose variables are still to be filled in."""


def draw(dashboard: Mapping[str, Any], ask: Ask) -> str:
    """The whole dashboard as SVG."""
    panels = dashboard["panels"]
    places = [panel["gridPos"] for panel in panels]
    height = HEAD + max(it.get("y", 0) + it["h"] for it in places) * ROW + GAP
    parts = [
        f'<rect width="{WIDTH}" height="{height}" fill="{_GROUND}"/>',
        _text(16, 32, dashboard["title"], size=20, weight=650),
        _text(16, 54, NOTE, colour=_MUTED),
    ]
    for panel in panels:
        place = panel["gridPos"]
        x, y = place.get("x", 0) * CELL + GAP, HEAD + place.get("y", 0) * ROW
        width, tall = place["w"] * CELL - GAP, place["h"] * ROW - GAP
        parts.append(f'<g transform="translate({x - GAP / 2:g} {y})">')
        parts += _panel(panel, ask, width=width, height=tall)
        parts.append("</g>")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" font-size="12"'
        ' font-family="system-ui, Helvetica, Arial, DejaVu Sans, sans-serif">'
    )
    return "\n".join([head, f"<title>{escape(dashboard['title'])}</title>", *parts, "</svg>", ""])


def _panel(panel: Mapping[str, Any], ask: Ask, *, width: int, height: int) -> Iterator[str]:
    yield (f'<rect width="{width}" height="{height}" rx="8" fill="{_SURFACE}" stroke="{_LINE}"/>')
    yield _text(14, 24, panel["title"], weight=600, size=13)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = [
        (_legend(target["legendFormat"], series.labels), points)
        for target in panel["targets"]
        for series in ask(target["expr"])
        if (points := [it for it in series.points if math.isfinite(it[1])])
    ]
    if not found:
        yield _text(width / 2, height / 2 + 10, NO_DATA, colour=_MUTED, anchor="middle", size=14)
    elif panel["type"] == "stat":
        yield from _numbers(found, unit=unit, width=width, height=height)
    else:
        yield from _lines(found, unit=unit, width=width, height=height)


def _numbers(
    found: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    unit: str,
    width: int,
    height: int,
) -> Iterator[str]:
    shown = sorted(found)[:_NUMBERS_SHOWN]
    column = (width - 28) / len(shown)
    for at, (legend, points) in enumerate(shown):
        x = 14 + at * column
        size = 26 if len(shown) < _NUMBERS_SHOWN else 17
        yield _text(x, height - 38, written(points[-1][1], unit), size=size, weight=600)
        yield _text(x, height - 16, _short(legend, column / 6.4), colour=_MUTED, size=11)


def _lines(
    found: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    unit: str,
    width: int,
    height: int,
) -> Iterator[str]:
    shown = sorted(found, key=lambda it: -max(value for _, value in it[1]))[:_SERIES_SHOWN]
    left, right, top, bottom = 58, 14, 40, 66
    times = [at for _, points in shown for at, _ in points]
    first, last = min(times), max(times)
    most = max(value for _, points in shown for _, value in points) or 1.0

    def place(point: tuple[float, float]) -> str:
        x = left + (point[0] - first) / ((last - first) or 1) * (width - left - right)
        y = height - bottom - point[1] / most * (height - top - bottom)
        return f"{x:.1f},{y:.1f}"

    for share in (0.0, 0.5, 1.0):
        y = height - bottom - share * (height - top - bottom)
        yield (
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_LINE}"/>'
        )
        yield _text(
            left - 8, y + 4, written(share * most, unit), colour=_MUTED, size=10.5, anchor="end"
        )
    ends = ((first, float(left), "start"), (last, float(width - right), "end"))
    for at, x, anchor in ends:
        clock = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
        yield _text(x, height - bottom + 16, clock, colour=_MUTED, size=10.5, anchor=anchor)
    for number, (legend, points) in enumerate(shown):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(map(place, points))
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        column, row = number % 3, number // 3
        x, y = 14 + column * (width - 28) / 3, height - 28 + row * 17
        yield f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="10" height="3" rx="1.5" fill="{colour}"/>'
        yield _text(x + 15, y, _short(legend, (width - 28) / 3 / 6.6 - 2), colour=_MUTED, size=11)


def written(value: float, unit: str) -> str:
    """A value in the panel's unit, as people write it."""
    if unit == "currencyUSD":
        return f"${value:.4f}" if value >= _SMALLEST_USD or value == 0 else f"<${_SMALLEST_USD}"
    if unit == "percentunit":
        return f"{value * 100:.0f} %"
    if unit == "s":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    if unit == "bytes":
        return f"{value / 1024:.0f} KiB" if value < 1024**2 else f"{value / 1024**2:.1f} MiB"
    suffix = {"reqps": "/s", "cps": "/s", "rowsps": "/s"}.get(unit, "")
    text = f"{value:,.0f}" if value >= _WHOLE_FROM or value == int(value) else f"{value:.2g}"
    return text + suffix


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda it: labels.get(it[1], ""), template).strip() or "value"


def _short(words: str, most: float) -> str:
    return words if len(words) <= most else f"{words[: max(int(most) - 1, 1)]}…"


def _text(
    x: float,
    y: float,
    words: str,
    *,
    colour: str = _INK,
    size: float = 12,
    weight: int = 400,
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" font-weight="{weight}"'
        f' fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
    )
