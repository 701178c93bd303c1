"""Small charts as SVG: bars against a ceiling, and a line over a logarithmic axis."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 800, 270, 60
_BAR, _GAP = 22, 12
_INK, _FAINT, _OURS, _OTHER = "#1f2937", "#d1d5db", "#2563eb", "#9ca3af"


def bars(title: str, rows: Sequence[tuple[str, float, float | None]], *, unit: str = "") -> str:
    """Rows of a name, a value and, where there is one, the value aimed for: a mark on the row."""
    top = 44
    height = top + len(rows) * (_BAR + _GAP) + 12
    most = max(max(value, aim or 0) for _, value, aim in rows)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts = [_text(16, 24, title, weight="bold")]
    for at, (name, value, aim) in enumerate(rows):
        y = top + at * (_BAR + _GAP)
        colour = _OTHER if at == 0 else _OURS
        parts.append(_text(_LEFT - 10, y + 16, name, anchor="end"))
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{value * scale:.1f}" height="{_BAR}" '
            f'rx="3" fill="{colour}"/>'
        )
        parts.append(_text(_LEFT + max(value, aim or 0) * scale + 8, y + 16, f"{value:.2f}{unit}"))
        if aim is not None:
            x = _LEFT + aim * scale
            parts.append(
                f'<line x1="{x:.1f}" y1="{y - 4}" x2="{x:.1f}" y2="{y + _BAR + 4}" '
                f'stroke="{_INK}" stroke-width="2"/>'
            )
    return _svg(height, parts)


def line(title: str, points: Sequence[tuple[float, float]], *, across: str, up: str) -> str:
    """Points over a logarithmic axis, joined."""
    return lines(title, {"": points}, across=across, up=up)


def lines(
    title: str, named: Mapping[str, Sequence[tuple[float, float]]], *, across: str, up: str
) -> str:
    """Lines of points over one logarithmic axis, each with its name at its end; ours is first."""
    height, top, bottom, left = 300, 50, 46, 70
    every = [point for points in named.values() for point in points]
    low, high = (math.log2(found(x for x, _ in every)) for found in (min, max))
    most = max(value for _, value in every) * 1.1
    width = _WIDTH - left - _RIGHT - 8 * max(map(len, named))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (math.log2(point[0]) - low) / (high - low or 1) * width
        return x, height - bottom - point[1] / most * (height - top - bottom)

    parts = [_text(16, 24, title, weight="bold"), _text(left, 44, up)]
    base = height - bottom
    parts.append(
        f'<line x1="{left}" y1="{base}" x2="{left + width}" y2="{base}" stroke="{_FAINT}"/>'
    )
    for at, (name, points) in enumerate(named.items()):
        colour = _OTHER if at else _OURS
        path = " ".join("{:.1f},{:.1f}".format(*place(point)) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in points:
            x, y = place(point)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            below = 18 if at else -10
            parts.append(_text(x, y + below, f"{point[1]:.1f}", anchor="middle"))
        if name:
            x, y = place(points[-1])
            parts.append(_text(x + 30, y + 5, name))
    for value in sorted({x for x, _ in every}):
        x, _ = place((value, 0))
        parts.append(_text(x, base + 18, f"{value:g}", anchor="middle"))
    parts.append(_text(left + width / 2, height - 8, across, anchor="middle"))
    return _svg(height, parts)


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{_INK}">{escape(words)}</text>'
    )


def _svg(height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="14">'
    )
    ground = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>", ""])
