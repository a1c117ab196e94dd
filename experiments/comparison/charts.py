"""Charts of a comparison as SVG text that stands within the page and takes its colours from the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from experiments.comparison.paired_difference import PairedDifference

_SIDE, _MARGIN = 300, 44
_ROW, _NAMES, _WIDE = 24, 104, 400


def scatter(first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str]) -> str:
    """A dot for each patient that both have: Dice of the first model across, of the second up, with the diagonal."""
    shared = [patient for patient in first if patient in second]
    edge, end = _MARGIN, _MARGIN + _SIDE
    parts = [_frame(f"Dice of each patient, {names[0]} across and {names[1]} up", end + 14, end + 30)]
    parts.append(f'<rect class="area" x="{edge}" y="10" width="{_SIDE}" height="{_SIDE}"/>')
    parts.append(f'<line class="guide" x1="{edge}" y1="{_SIDE + 10}" x2="{end}" y2="10"/>')
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = edge + tick * _SIDE, 10 + (1 - tick) * _SIDE
        parts.append(f'<text x="{x:.0f}" y="{_SIDE + 26}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{edge - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>')
    for patient in shared:
        across, up = first[patient], second[patient]
        told = f"patient {patient}: {names[0]} {across:.3f}, {names[1]} {up:.3f}"
        parts.append(
            f'<circle class="dot" cx="{edge + across * _SIDE:.1f}" cy="{10 + (1 - up) * _SIDE:.1f}" r="4.5">'
            f"<title>{escape(told)}</title></circle>"
        )
    middle = 10 + _SIDE / 2
    parts.append(f'<text x="{edge + _SIDE / 2}" y="{_SIDE + 46}" text-anchor="middle">{escape(names[0])}</text>')
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(names[1])}</text>'
    )
    return "".join([*parts, "</svg>"])


def intervals(rows: Sequence[tuple[str, PairedDifference]], names: tuple[str, str]) -> str:
    """A line for each score: the difference as a dot, its interval as a bar, zero as a rule; nothing without any."""
    rows = [(label, each) for label, each in rows if each.low is not None]
    if not rows:
        return ""
    most = max(max(abs(each.low), abs(each.high), abs(each.value)) for _, each in rows) or 1.0
    height = len(rows) * _ROW + 58
    middle, half = _NAMES + (_WIDE - _NAMES - 20) / 2, (_WIDE - _NAMES - 40) / 2
    parts = [_frame(f"Differences {names[1]} minus {names[0]} with 95 % intervals", _WIDE, height)]
    parts.append(f'<line class="guide" x1="{middle}" y1="24" x2="{middle}" y2="{height - 30}"/>')
    parts.append(f'<text x="{middle - 8}" y="16" text-anchor="end">← {escape(names[0])} better</text>')
    parts.append(f'<text x="{middle + 8}" y="16">{escape(names[1])} better →</text>')
    for position, (label, each) in enumerate(rows):
        y = 24 + (position + 0.5) * _ROW
        low, value, high = (middle + end / most * half for end in (each.low, each.value, each.high))
        parts.append(f'<text x="{_NAMES}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<line class="bar" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{value:.1f}" cy="{y}" r="4.5"/>')
    for end in (-most, 0, most):
        x = middle + end / most * half
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{end:+.2g}</text>')
    return "".join([*parts, "</svg>"])


def _frame(title: str, width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" '
        f'role="img"><title>{escape(title)}</title>'
    )
