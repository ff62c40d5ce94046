"""How figures look as a picture: bars, and a line, as SVG text.

Pure. The pictures hold no script, no font and no address, have no background, and use colours that can be read on a
white page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.figures import text

#: Grey words have a contrast of more than 4 on white and on near black alike.
_INK, _FAINT, _OURS, _OTHER = "#767f8a", "#767f8a66", "#3987e5", "#8b949e"
_WIDTH = 760
#: Values of points that are nearer to each other than this would lie on each other.
_NEAR = 70.0

Bar = tuple[str, float]
Point = tuple[float, float]


def bars(title: str, values: Sequence[Bar], *, ours: str = "postlog") -> str:
    """Horizontal bars from 0, in the order given; the one that is named `ours` stands out."""
    left, top, step, room = 250, 44, 30, _WIDTH - 250 - 90
    most = max((value for _, value in values), default=0) or 1
    body = []
    for number, (name, value) in enumerate(values):
        y, width = top + number * step, max(value / most * room, 1)
        mine = name == ours
        body += [
            _words(left - 10, y + 15, name, anchor="end", bold=mine),
            f'<rect x="{left}" y="{y}" width="{width:.1f}" height="21" rx="3" fill="{_OURS if mine else _OTHER}"/>',
            _words(left + width + 8, y + 15, text(value), bold=mine),
        ]
    return _picture(title, top + step * len(values) + 8, body)


def line(title: str, across: str, points: Sequence[Point]) -> str:
    """One line over a linear axis that begins at 0 on both sides; every point is marked and says its value.

    across  what the horizontal axis is, with its unit
    """
    left, top, width, height = 60, 64, _WIDTH - 60 - 70, 190
    furthest = max((x for x, _ in points), default=0) or 1
    most = (max((y for _, y in points), default=0) or 1) * 1.05
    places = [(left + x / furthest * width, top + height - y / most * height, x, y) for x, y in points]
    foot = top + height
    body = [
        f'<path d="M{left} {top}V{foot}H{left + width}" fill="none" stroke="{_FAINT}"/>',
        f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)}" fill="none" stroke="{_OURS}"'
        ' stroke-width="2.5" stroke-linejoin="round"/>',
        _words(left + width / 2, foot + 40, across, anchor="middle"),
    ]
    above, before = False, -_NEAR
    for x, y, across_value, up_value in places:
        above, before = x - before >= _NEAR or not above, x
        body += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{_OURS}"/>',
            _words(x, y - 12 if above else y + 24, text(up_value), anchor="middle", bold=True),
            _words(x, foot + 18, f"{across_value:,g}", anchor="middle"),
        ]
    return _picture(title, foot + 52, body)


def _words(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def _picture(title: str, height: float, body: Sequence[str]) -> str:
    name = escape(title)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{name}" font-family="sans-serif" font-size="14" fill="{_INK}">'
    )
    heading = f'<text x="0" y="20" font-size="16" font-weight="600">{name}</text>'
    return "\n".join([head, f"<title>{name}</title>", heading, *body, "</svg>\n"])
