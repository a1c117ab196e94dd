"""The parts of a page of results: one file that shows without network or scripts, on paper and on a phone too.

Each part is text of HTML, and everything that comes from data goes through `text`. Pictures are embedded. The colours
of lines are those of Okabe and Ito (2008, Color Universal Design), set once for a light and once for a dark screen.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mrcnn.inference.drawing import FOOTER as NOTICE

__all__ = [
    "NOTICE", "Points", "bullets", "embedded", "facts", "figure", "line_chart", "page", "paragraph", "section", "table",
    "text", "ticks",
]  # fmt: skip
COLOURS = 7
DASHES = ("", "7 3", "2 3", "12 4", "7 3 2 3")
"""Of lines one after another, so that they can be told apart on grey paper too and where one lies over another."""
SIDES = (1000, 800, 640, 480, 360, 240)  # pixels of a picture's longer side, as large as its share of the page allows
_WIDTH, _HEIGHT = 460, 250  # of a chart, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 10, 34  # margins around its lines
_TICKS = 5
STYLE = """:root{color-scheme:light dark;--ground:#fff;--ink:#1c1c1c;--soft:#5a5a5a;--rule:#c9c9c9;--tint:#f3f4f6;
--bad:#a11;--c0:#0072b2;--c1:#c25400;--c2:#00805d;--c3:#a8548a;--c4:#8a6d00;--c5:#2f87b8;--c6:#333}
@media(prefers-color-scheme:dark){:root{--ground:#15171a;--ink:#e8e8e8;--soft:#a8adb3;--rule:#43474d;--tint:#1f2226;
--bad:#ff8d85;--c0:#56b4e9;--c1:#f0893e;--c2:#2fc79e;--c3:#dd9cc4;--c4:#f0e442;--c5:#8fc7ea;--c6:#ddd}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:1080px;margin:0 auto;
padding:1em}
h1{font-size:1.7em;line-height:1.2;margin:.3em 0;overflow-wrap:anywhere}
h2{font-size:1.25em;margin:2em 0 .5em;padding-bottom:.2em;border-bottom:1px solid var(--rule)}
h3{font-size:1em;margin:1.2em 0 .4em}p,li{max-width:75ch;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:.2em 1.1em;margin:1em 0}a{color:var(--c0)}
.notice{display:inline-block;border:1px solid var(--bad);color:var(--bad);border-radius:4px;padding:.1em .6em;
font-weight:600}.bad{color:var(--bad)}.soft{color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.7em;margin:1em 0}
.facts div{background:var(--tint);border-radius:6px;padding:.6em .8em}.facts b{display:block;font-size:1.6em;
line-height:1.25}.facts span{color:var(--soft);font-size:.87em;display:block}
.wide{overflow-x:auto;margin:.6em 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3em 0}
td,th{border-bottom:1px solid var(--rule);padding:.25em .7em;text-align:right;vertical-align:top}
th{color:var(--soft);font-weight:600}td:first-child,th:first-child{text-align:left;padding-left:0}
td.words,th.words{text-align:left;overflow-wrap:anywhere}
figure{margin:.4em 0;break-inside:avoid}figcaption{font-size:.87em;color:var(--soft);overflow-wrap:anywhere}
img{max-width:100%;height:auto;display:block;border-radius:4px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:1em 1.6em;align-items:start}
.pair>*{min-width:0}
.gallery{display:grid;gap:.4em 1em;
grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr))}.gallery>*{min-width:0}
svg{width:100%;height:auto;display:block;font:11px system-ui,sans-serif}
svg text{fill:var(--soft)}.grid{stroke:var(--rule);stroke-width:.7}.line{fill:none;stroke-width:2}
.legend{display:flex;flex-wrap:wrap;gap:.1em 1em;padding:0;margin:.2em 0;list-style:none;font-size:.87em}
.legend svg{display:inline-block;width:26px;height:10px;margin-right:.4em;vertical-align:middle}
pre{background:var(--tint);border-radius:6px;padding:.8em;font-size:.8em;line-height:1.4;white-space:pre-wrap;
overflow-wrap:anywhere}pre.columns{columns:2 340px;column-gap:2em}
code{overflow-wrap:anywhere}
@media(max-width:520px){body{padding:.7em}td,th{padding:.25em .4em;font-size:.93em}}
@media print{:root{color-scheme:light;--ground:#fff;--ink:#000;--soft:#444;--rule:#bbb;--tint:#f4f4f4;--bad:#a11;
--c0:#0072b2;--c1:#c25400;--c2:#00805d;--c3:#a8548a;--c4:#8a6d00;--c5:#2f87b8;--c6:#333}
body{font-size:10.5pt;max-width:none;padding:0}nav{display:none}h2,h3{break-after:avoid}
.pair{grid-template-columns:1fr 1fr}.wide{overflow:visible}tr{break-inside:avoid}}"""


def text(value: object) -> str:
    """`value` as text that HTML takes for nothing else, also within an attribute."""
    return html.escape(str(value))


def page(title: str, parts: Iterable[str]) -> str:
    """The whole document; `parts` are HTML."""
    policy = "default-src 'none'; img-src data: 'self' file:; style-src 'unsafe-inline'"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title><style>{STYLE}</style></head><body>",
            *parts,
            "</body></html>\n",
        ]
    )


def section(name: str, title: str, *parts: str) -> str:
    """A section that `#name` leads to; empty where all of its parts are."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{text(name)}"><h2>{text(title)}</h2>\n{inner}\n</section>' if inner else ""


def paragraph(words: object) -> str:
    return f"<p>{text(words)}</p>"


def bullets(lines: Iterable[object], *, kind: str = "") -> str:
    """A list; empty without lines."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def facts(values: Iterable[tuple[object, object, object]]) -> str:
    """Figures that stand out, each (name, value, what is below it)."""
    boxes = (f"<div><span>{text(a)}</span><b>{text(b)}</b><span>{text(c)}</span></div>" for a, b, c in values)
    return f'<div class="facts">{"".join(boxes)}</div>'


def table(
    headings: Sequence[object], rows: Iterable[Sequence[object]], *, title: str = "", words: Sequence[int] = ()
) -> str:
    """A table whose first column names the row and whose others are numbers, but for the columns `words`."""

    def row(cells: Sequence[object], tag: str) -> str:
        marked = (
            f"<{tag}{' class=words' if place in words else ''}>{text(cell)}</{tag}>" for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    caption = f"<caption>{text(title)}</caption>" if title else ""
    body = "\n".join(row(cells, "td") for cells in rows)
    return f'<div class="wide"><table>{caption}<thead>{row(headings, "th")}</thead><tbody>{body}</tbody></table></div>'


def figure(source: str, caption: object, *, alternative: object = "") -> str:
    """A picture: `source` is a path beside the page, or what `embedded` made."""
    image = f'<img src="{text(source)}" alt="{text(alternative or caption)}">'
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"


def embedded(picture: Path | np.ndarray, *, most_bytes: int) -> str:
    """A picture as a data address of at most `most_bytes` characters, made smaller until it fits.

    A small PNG stays as it is, for it is sharper; everything else becomes JPEG. What does not fit at the least of
    `SIDES` stays at that.
    """
    if isinstance(picture, Path):
        raw = picture.read_bytes()
        if raw.startswith(b"\x89PNG") and len(raw) * 4 // 3 + 30 <= min(most_bytes, 60_000):
            return _address("png", raw)
        image = Image.open(io.BytesIO(raw))
    else:
        image = Image.fromarray(picture)
    image = image.convert("RGB")
    for side in SIDES:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        image.save(written, "JPEG", quality=80, optimize=True)
        address = _address("jpeg", written.getvalue())
        if len(address) <= most_bytes:
            break
    return address


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


Points = Sequence[tuple[float, float]]


def line_chart(
    title: str,
    lines: Mapping[str, Points],
    *,
    across: str,
    mark: tuple[float, str] | None = None,
    ends: tuple[float, float] | None = None,
) -> str:
    """Lines over a common axis as inline SVG with a legend; empty without any point.

    Points that are not finite leave a gap, and a point without neighbours is a dot.

    Args:
        lines: (x, y) of each, x rising.
        mark: an x that stands out, and why.
        ends: of the y axis; None: of the values, from 0 where they are near it.
    """
    lines = {name: list(points) for name, points in lines.items()}
    kept = [point for points in lines.values() for point in points if all(map(math.isfinite, point))]
    if not kept:
        return ""
    xs = [x for x, _ in kept] + ([mark[0]] if mark else [])
    low_x, high_x = min(xs), max(xs)
    low_y, high_y = ends or _ends([y for _, y in kept])

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = (x - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        share_y = (min(max(y, low_y), high_y) - low_y) / (high_y - low_y)
        return (
            round(_LEFT + share_x * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - share_y * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    drawn = []
    for tick in ticks(low_y, high_y):
        y = place(low_x, tick)[1]
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:.4g}</text>')
    for tick in ticks(low_x, high_x, whole=True):
        x = place(tick, low_y)[0]
        drawn.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    drawn.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">{text(across)}</text>')
    if mark:
        x, bottom = place(mark[0], low_y)
        drawn.append(
            f'<line class="grid" stroke-dasharray="3 3" style="stroke:var(--soft)" x1="{x}" x2="{x}" '
            f'y1="{_TOP}" y2="{bottom}"/>'
        )
    legend = []
    for number, (name, points) in enumerate(lines.items()):
        stroke = f'style="stroke:var(--c{number % COLOURS})"'
        if dash := DASHES[number % len(DASHES)]:
            stroke += f' stroke-dasharray="{dash}"'
        drawn += _pieces([place(x, y) if math.isfinite(y) else None for x, y in points], stroke)
        sample = f'<svg viewBox="0 0 26 10" aria-hidden="true"><path class="line" {stroke} d="M0 5H26"/></svg>'
        legend.append(f"<li>{sample}{text(name)}</li>")
    if mark:
        legend.append(f"<li>┊ {text(mark[1])}</li>")
    return (
        f'<figure><h3>{text(title)}</h3><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(title)}">'
        f'{"".join(drawn)}</svg><ul class="legend">{"".join(legend)}</ul></figure>'
    )


def _pieces(places: Sequence[tuple[float, float] | None], stroke: str) -> list[str]:
    """The unbroken parts of a line; a part of one point is a dot."""
    pieces = []
    for present, group in itertools.groupby(places, key=lambda each: each is not None):
        part = list(group)
        if present and len(part) == 1:
            pieces.append(f'<circle {stroke.replace("stroke:", "fill:")} cx="{part[0][0]}" cy="{part[0][1]}" r="3"/>')
        elif present:
            pieces.append(f'<polyline class="line" {stroke} points="{" ".join(f"{x},{y}" for x, y in part)}"/>')
    return pieces


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Round numbers around the values."""
    low, high = min(values), max(values)
    if low >= 0 and (low < high / 2 or low == high):
        low = 0.0
    if high <= low:
        low, high = low * 2, max(high, 0.0) or 1.0
    step = _step(low, high)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """About `_TICKS` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`."""
    if high <= low:
        return [low]
    step = max(1.0, _step(low, high)) if whole else _step(low, high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def _step(low: float, high: float) -> float:
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
