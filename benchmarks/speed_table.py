"""Format the measurements of a benchmark as rows of a Markdown table."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

TITLES = {
    "size": 5,
    "batch": 5,
    "work": 20,
    "system": 25,
    "seconds (min–max)": 24,
    "first step, s": 13,
    "peak, GiB": 9,
    "GFLOP": 7,
    "GFLOP/s": 7,
    "of limit": 8,
    "kept": 7,
    "× peer": 6,
}
"""Column titles and their widths; every column but `work` and `system` is aligned right."""
LEFT = ("work", "system")
WORK = {"train": "training step", "many": "inference, many", "few": "inference, few"}


@dataclass
class Measured:
    """Store one system at one size, batch and work; `seconds` and `limits` (GFLOP/s) have an entry per turn.

    Attributes:
        first: seconds of the first step, which traces and compiles.
        peak: peak memory of the process in bytes.
        gflop: operations of one step; None if not counted.
        kept: number of detections per image.
        device: device of the limits.
    """

    size: int
    batch: int
    work: str
    system: str
    first: float
    gflop: float | None
    kept: list[int]
    device: str
    peak: int = 0
    seconds: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)


def heading() -> str:
    titles = [_fit(title, title) for title in TITLES]
    rules = [
        ("-" * TITLES[title]) if title in LEFT else ("-" * (max(TITLES[title], len(title)) - 1) + ":")
        for title in TITLES
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (titles, rules))


def row(measured: Measured, peer: Measured | None) -> str:
    """Format one row; the last cell is the speedup over `peer`, the median of the ratios per turn."""
    if measured.gflop is None:
        counted = {}
    else:
        share = median(
            measured.gflop / seconds / limit for seconds, limit in zip(measured.seconds, measured.limits, strict=True)
        )
        rate = measured.gflop / median(measured.seconds)
        counted = {"GFLOP": f"{measured.gflop:.0f}", "GFLOP/s": f"{rate:.0f}", "of limit": f"{share:.0%}"}
    cells = {
        "size": str(measured.size),
        "batch": str(measured.batch),
        "work": WORK[measured.work],
        "system": measured.system,
        "seconds (min–max)": spread(measured.seconds),
        "first step, s": f"{measured.first:.1f}",
        "peak, GiB": f"{measured.peak / 2**30:.2f}",
        **counted,
        "kept": span(measured.kept),
        "× peer": f"{speedup(measured.seconds, peer.seconds):.2f}" if peer else "",
    }
    return "| " + " | ".join(_fit(title, cells.get(title, "")) for title in TITLES) + " |"


def speedup(ours: list[float], theirs: list[float]) -> float:
    """Compute the median ratio of times per turn, so that a change of the machine's speed affects both."""
    return median(their / our for our, their in zip(ours, theirs, strict=True))


def spread(seconds: list[float]) -> str:
    """Format the median and the range: `1.23 (1.20–1.31)`."""
    return f"{_digits(median(seconds))} ({_digits(min(seconds))}–{_digits(max(seconds))})"


def span(counts: list[int]) -> str:
    """Format counts: `100`, or `1–5` if images differ, or empty text without images."""
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def _digits(seconds: float) -> str:
    """Format three significant digits, or all before the point."""
    return f"{seconds:.{2 if seconds >= 1 else 3}f}" if seconds < 100 else f"{seconds:.0f}"


def _fit(title: str, text: str) -> str:
    width = max(TITLES[title], len(title))
    return text.ljust(width) if title in LEFT else text.rjust(width)
