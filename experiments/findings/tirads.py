"""Compute points, level and advice of ACR TI-RADS, without an image.

Source: Tessler FN et al. 2017, ACR Thyroid Imaging, Reporting and Data System (TI-RADS): White Paper of the ACR TI-RADS
Committee, J Am Coll Radiol 14(5):587–595, figure 1 with its notes. Unknown points are ranges, and so are
level and advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mrcnn.errors import InputError

TABLE: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "composition": {"cystic": 0, "spongiform": 0, "mixed": 1, "solid": 2, "obscured by calcification": 2},
        "echogenicity": {
            "anechoic": 0,
            "hyperechoic": 1,
            "isoechoic": 1,
            "undetermined": 1,
            "hypoechoic": 2,
            "very hypoechoic": 3,
        },
        "shape": {"wider-than-tall": 0, "taller-than-wide": 3},
        "margin": {
            "smooth": 0,
            "ill-defined": 0,
            "undetermined": 0,
            "lobulated": 2,
            "irregular": 2,
            "extrathyroidal": 3,
        },
        "echogenic_foci": {"none": 0, "comet-tail": 0, "macrocalcification": 1, "rim": 2, "punctate": 3},
    }
)
"""Points of each feature by category; those of all echogenic foci are summed."""
SIZES_MM: Mapping[int, tuple[float, float]] = MappingProxyType({3: (25.0, 15.0), 4: (15.0, 10.0), 5: (10.0, 5.0)})
"""Level → longest diameter from which fine-needle aspiration, and follow-up, is advised."""
ADVICE = ("no further action", "follow-up", "fine-needle aspiration")

_FOCI = "echogenic_foci"


@dataclass(frozen=True)
class Points:
    """Lowest and highest points of one category, and their source."""

    low: int
    high: int
    provenance: str
    seen: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Convert for JSON."""
        return {"points": [self.low, self.high], "provenance": self.provenance, "seen": self.seen}


def unknown(category: str) -> Points:
    """Return the full range of points of a category."""
    values = TABLE[category].values()
    return Points(0, sum(values) if category == _FOCI else max(values), "not assessed")


def read(category: str, given: str | Sequence[str]) -> Points:
    """Return the points of a feature that a reader reports; echogenic foci may be a list, [] for none.

    Raises:
        InputError: the category has no such feature.
    """
    words = [given] if isinstance(given, str) else given
    allowed = TABLE[category]
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) and word in allowed for word in words):
        raise InputError(f"reader_input: {category}={given!r}: expected {', '.join(allowed)}")
    if category != _FOCI and len(words) != 1:
        raise InputError(f"reader_input: {category}={given!r}: expected one of {', '.join(allowed)}")
    if "none" in words and len(set(words)) > 1:
        raise InputError(f"reader_input: {category}={given!r}: expected none alone")
    points = sum(allowed[word] for word in set(words))
    return Points(points, points, "reader", ", ".join(sorted(set(words))) or "none")


def total(categories: Mapping[str, Points]) -> tuple[int, int]:
    """Compute the lowest and highest sum of points.

    A spongiform nodule gets no further points, so 0 is possible if the composition was not assessed.
    """
    composition = categories["composition"]
    if composition.seen == "spongiform":
        return 0, 0
    low, high = (sum(getattr(each, end) for each in categories.values()) for end in ("low", "high"))
    return (0 if composition.seen is None else low), high


def level(points: int) -> int:
    """Return 1 … 5 for TR1 … TR5.

    The paper defines no level for 1 point (for example a cyst with a macrocalcification). Here it is TR1, because TR2
    begins at 2; neither level requires an action.
    """
    return 1 if points < 2 else 2 if points == 2 else 3 if points == 3 else 4 if points <= 6 else 5


def advice(of_level: int, longest_mm: float) -> int:
    """Return the index in `ADVICE` for a nodule of this level and longest diameter."""
    aspirate, follow = SIZES_MM.get(of_level, (float("inf"), float("inf")))
    return 2 if longest_mm >= aspirate else 1 if longest_mm >= follow else 0


def assess(categories: Mapping[str, Points], longest_mm: float | None) -> dict[str, Any]:
    """Compute the result from the points of all five categories.

    Returns:
        `points` [low, high]; `level` ["TR3", "TR4"], or None for TR1 to TR5; `advice`, two of `ADVICE`, or None without
        a level or millimeters; `unless_spongiform`, points and level of a nodule that is not spongiform, if the
        composition was not assessed; and `categories`, each with its `points`, `provenance` and the feature `seen`.
    """
    low, high = total(categories)
    levels = [level(low), level(high)]
    result: dict[str, Any] = {"points": [low, high], "level": _names(levels), "advice": None}
    if longest_mm is not None and result["level"]:
        result["advice"] = [ADVICE[advice(each, longest_mm)] for each in levels]
    if categories["composition"].seen is None:
        least = sum(each.low for each in categories.values())
        result["unless_spongiform"] = {"points": [least, high], "level": _names([level(least), levels[1]])}
    result["categories"] = {name: each.as_dict() for name, each in categories.items()}
    return result


def _names(levels: list[int]) -> list[str] | None:
    """Return the lowest and highest level by name; None for all levels, which say nothing."""
    return None if levels == [1, 5] else [f"TR{each}" for each in levels]
