"""Render pages with Jinja2: single HTML files that need no network, readable on paper and on a phone.

The templates escape all values. A content security policy allows the one inline script by its hash and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mrcnn.inference.drawing import FOOTER as NOTICE
from mrcnn.inference.drawing import PALETTE

SERIES = 7
"""Number of series colors in style.css."""
DASHES = ("", "7 3", "2 3", "12 4", "7 3 2 3")
"""Dashes of successive lines, to distinguish them on gray paper and where one covers another."""
PICTURE_SIDES = (1000, 800, 640, 480, 360, 240)
"""Longer side of an embedded picture in pixels, the first that fits in its limit."""
_MAX_PNG = 60_000  # bytes; a smaller PNG is embedded as it is, because it is sharper than a JPEG
_TICKS = 5

Points = Sequence[tuple[float, float]]


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("experiments.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = made.get_template("page.js").render()
    made.globals |= {
        "notice": NOTICE,
        "script": Markup(script),
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "class_colors": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in PALETTE],
    }
    return made


ENVIRONMENT = _environment()


def render(template: str, **values: Any) -> str:
    """Render a template of the folder `templates`; all values are escaped."""
    return ENVIRONMENT.get_template(template).render(**values)


class Term(NamedTuple):
    """A name with its definition, which the page shows on request."""

    label: str
    definition: str


def class_colors(names: Sequence[str]) -> dict[str, str]:
    """Return the CSS color of each class, the one that it has in overlays."""
    return {name: f"--k{number % len(PALETTE) + 1}" for number, name in enumerate(names)}


def embedded(picture: Path | np.ndarray, *, max_bytes: int) -> str:
    """Encode a picture as a data URL of at most `max_bytes` characters, reduced until it fits.

    A small PNG file is unchanged; everything else becomes JPEG. At the last of `PICTURE_SIDES` it may be larger.
    """
    if isinstance(picture, Path):
        raw = picture.read_bytes()
        if raw.startswith(b"\x89PNG") and len(raw) * 4 // 3 + 30 <= min(max_bytes, _MAX_PNG):
            return _data_url("png", raw)
        image = Image.open(io.BytesIO(raw))
    else:
        image = Image.fromarray(picture)
    image = image.convert("RGB")
    url = ""
    for side in PICTURE_SIDES:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80, optimize=True)
        url = _data_url("jpeg", file.getvalue())
        if len(url) <= max_bytes:
            break
    return url


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class Line:
    """A line of a chart: each part is connected points, or a single point, in units of the SVG."""

    name: str
    color: str
    dash: str
    parts: list[list[tuple[float, float]]]


@dataclass(frozen=True)
class Chart:
    """The geometry of a line chart in units of the SVG; the macro `chart` draws it."""

    title: str
    across: str
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    lines: list[Line]
    mark: tuple[float, str] | None
    width: int = 460
    height: int = 250
    left: int = 54
    right: int = 450
    top: int = 10
    bottom: int = 216


def line_chart(
    title: str,
    lines: Mapping[str, Points],
    *,
    across: str,
    mark: tuple[float, str] | None = None,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    colors: Mapping[str, str] | None = None,
) -> Chart | None:
    """Scale lines to a common axis; return None without any point.

    Points that are not finite interrupt a line, and a point without neighbors is a dot.

    Args:
        title: of the chart.
        lines: (x, y) of each line, x rising.
        across: label of the x axis.
        mark: an x that is marked, and its label.
        y_range: of the y axis; None for the range of the values, from 0 if they are near it.
        x_range: of the x axis; None for whole numbers over the range of the values.
        colors: CSS variables of the lines; None for the series colors.
    """
    points_of = {name: list(points) for name, points in lines.items()}
    finite = [point for points in points_of.values() for point in points if all(map(math.isfinite, point))]
    if not finite:
        return None
    xs = [x for x, _ in finite] + ([mark[0]] if mark else [])
    low_x, high_x = x_range or (min(xs), max(xs))
    low_y, high_y = y_range or _round_range([y for _, y in finite])

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = (min(max(x, low_x), high_x) - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        share_y = (min(max(y, low_y), high_y) - low_y) / (high_y - low_y)
        return (
            round(Chart.left + share_x * (Chart.right - Chart.left), 1),
            round(Chart.bottom - share_y * (Chart.bottom - Chart.top), 1),
        )

    drawn = []
    for number, (name, points) in enumerate(points_of.items()):
        color = colors[name] if colors else f"--s{number % SERIES}"
        groups = itertools.groupby(points, key=lambda point: all(map(math.isfinite, point)))
        parts = [[place(*point) for point in group] for connected, group in groups if connected]
        drawn.append(Line(name, color, DASHES[number % len(DASHES)], parts))
    return Chart(
        title,
        across,
        [(place(low_x, tick)[1], f"{tick:.4g}") for tick in ticks(low_y, high_y)],
        [(place(tick, low_y)[0], f"{tick:g}") for tick in ticks(low_x, high_x, whole=x_range is None)],
        drawn,
        mark and (place(mark[0], low_y)[0], mark[1]),
    )


def _round_range(values: Sequence[float]) -> tuple[float, float]:
    """Return round numbers around the values."""
    low, high = min(values), max(values)
    if low >= 0 and (low < high / 2 or low == high):
        low = 0.0
    if high <= low:
        low, high = low * 2, max(high, 0.0) or 1.0
    if high - low < 1e-300:  # a step would be 0
        high = low + 1.0
    step = _step(low, high)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return about five round numbers, 1, 2 or 5 times a power of ten apart, from `low` to `high`."""
    if high <= low:
        return [low]
    step = max(1.0, _step(low, high)) if whole else _step(low, high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def _step(low: float, high: float) -> float:
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
