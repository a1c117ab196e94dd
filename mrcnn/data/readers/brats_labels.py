"""The codes of the BraTS label maps, and the three nested regions that they stand for.

The challenges changed the codes, see `LABEL_CODES`. The regions by which they rank are the same: the whole tumour, its
core (all but the edema) and the enhancing tumour (Menze et al. 2015, IEEE Trans. Med. Imaging 34(10); Baid et al. 2021,
arXiv:2107.02314). From 2024 on, maps of treated gliomas also hold the resection cavity, which belongs to none of the
three: the core is enhancing tissue and non-enhancing core, the whole tumour these and the surrounding FLAIR
hyperintensity (de Verdier et al. 2024, arXiv:2405.18368). Pediatric tumours have codes of their own, with the cyst a
part of the core (Fathi Kazerooni et al. 2024, arXiv:2404.15009), and meningiomas before radiotherapy have the gross
tumour volume alone (LaBella et al. 2024, arXiv:2405.18383).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mrcnn.errors import InputError

REGIONS = ("whole_tumor", "tumor_core", "enhancing_tumor")
"""Each within the one before."""


@dataclass(frozen=True)
class LabelCodes:
    """Codes of one challenge.

    Attributes:
        meaning: of the codes, for messages.
        core: the codes of the tumour core, of which `enhancing` is one.
        enhancing: the code of the enhancing tumour.
        edema: the code of what belongs to the whole tumour and not to its core.
        outside: codes of what belongs to no region.
    """

    meaning: str
    core: frozenset[int] = frozenset()
    enhancing: int | None = None
    edema: int = 2
    outside: frozenset[int] = frozenset({0})

    @property
    def values(self) -> frozenset[int]:
        """All that a label map may hold."""
        return self.outside | self.core | {self.edema}

    @property
    def regions(self) -> tuple[str, ...]:
        """Those of `REGIONS` that the codes tell apart."""
        return REGIONS if self.core else REGIONS[:1]


LABEL_CODES: Mapping[str, LabelCodes] = MappingProxyType(
    {
        "brats2013": LabelCodes("1 necrosis, 2 edema, 3 non-enhancing, 4 enhancing tumour", frozenset({1, 3, 4}), 4),
        "brats2018": LabelCodes("1 non-enhancing core, 2 edema, 4 enhancing tumour", frozenset({1, 4}), 4),
        "brats2023": LabelCodes("1 non-enhancing core, 2 edema, 3 enhancing tumour", frozenset({1, 3}), 3),
        "brats2024": LabelCodes(
            "1 non-enhancing core, 2 edema, 3 enhancing tumour, 4 resection cavity",
            frozenset({1, 3}),
            3,
            outside=frozenset({0, 4}),
        ),
        "brats2024_ped": LabelCodes(
            "1 enhancing tumour, 2 non-enhancing, 3 cyst, 4 edema", frozenset({1, 2, 3}), 1, edema=4
        ),
        "brats2024_men_rt": LabelCodes("1 gross tumour volume", edema=1),
        "msd": LabelCodes("1 edema, 2 non-enhancing core, 3 enhancing tumour", frozenset({2, 3}), 3, edema=1),
    }
)
"""By the year from which on they hold; `msd` are those of task 1 of the Medical Segmentation Decathlon."""

_NAMINGS = (
    (r"BraTS-MEN-RT-\d+", ("brats2024_men_rt",)),
    (r"BraTS-PEDs?-\d+", ("brats2023", "brats2024_ped")),
    (r"BraTS-(GLI|MET)-\d+", ("brats2023", "brats2024")),
    (r"BraTS-[A-Z]+-\d+", ("brats2023",)),
    (r"brats[-_]?(201[2-6](?!\d)|tcia_pat)", ("brats2013",)),
    (r"brats((1[7-9]|20)_|[-_]?20(1[7-9]|2[0-2])(?!\d))|UPENN-GBM-|phantom_", ("brats2018",)),
)
"""How the challenges named their cases, and the codes that they used under these names."""


def regions_of(labels: np.ndarray, codes: str) -> np.ndarray:
    """(K, …) bool, in the order of `LabelCodes.regions`, of a label map of any shape."""
    known = LABEL_CODES[codes]
    core = np.isin(labels, sorted(known.core))
    return np.stack([core | (labels == known.edema), core, labels == known.enhancing][: len(known.regions)])


def label_map(regions: np.ndarray, codes: str) -> np.ndarray:
    """The uint8 label map (…) of regions (K, …): the innermost region wins, what lies in none is 0.

    The 2013 codes also tell necrosis (1) from non-enhancing core (3); the regions do not, and both become 1. Likewise
    the cyst of pediatric tumours becomes non-enhancing (2).
    """
    known = LABEL_CODES[codes]
    of_region = (known.edema, min(known.core - {known.enhancing}, default=0), known.enhancing)
    labels = np.zeros(regions.shape[1:], np.uint8)
    for region, code in zip(regions, of_region[: len(known.regions)], strict=True):
        labels[region] = code
    return labels


def output_codes(name: str) -> str:
    """The codes of a label map of all three regions for a case; those of 2018 where its name says nothing."""
    complete = [codes for codes in _codes_of_naming(name) or ("brats2018",) if LABEL_CODES[codes].regions == REGIONS]
    return complete[-1] if complete else "brats2023"


def guess_codes(names: Sequence[str], values: Sequence[frozenset[int]]) -> tuple[list[str], list[str]]:
    """The codes of each case by its name and the values in the label maps of all cases of its naming, and warnings.

    The name says which challenge a case may be of, and the values which of its codes. Where a name says nothing, maps
    without 3 are taken to be those of 2018, with a warning; with 3 there are too many readings.

    Raises:
        InputError: the names and values of some cases leave several readings, or none.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        members[re.sub(r"\d+", "0", name)].append(position)
    found, unnamed, without_3, unclear = [""] * len(names), 0, 0, []
    for positions in members.values():
        present = frozenset().union(*(values[position] for position in positions))
        first = names[positions[0]]
        candidates = _codes_of_naming(first)
        readings = _readings(present, candidates or tuple(LABEL_CODES))
        if not candidates and 3 not in present:
            readings, unnamed = ["brats2018"], unnamed + len(positions) * bool(present - {0})
        if len(readings) != 1:
            more = f" and {len(positions) - 1} more" if len(positions) > 1 else ""
            unclear.append(f"{first}{more} ({_listed(present)})")
            continue
        treated = any(re.fullmatch(r".*-1\d\d", names[position]) for position in positions)
        without_3 += readings == ["brats2024"] and 3 not in present and not treated
        for position in positions:
            found[position] = readings[0]
    if unclear:
        more = f"; and {len(unclear) - 3} more namings" if len(unclear) > 3 else ""
        raise InputError(
            f"{'; '.join(unclear[:3])}{more}: names and labels do not tell what the labels mean; set "
            "brats.label_codes to one of "
            + "; ".join(f"{name} ({codes.meaning})" for name, codes in LABEL_CODES.items())
        )
    warnings = []
    if unnamed:
        warnings.append(
            f"{unnamed} of {len(names)} cases have names of no known challenge; their labels are taken as brats2018 "
            f"({LABEL_CODES['brats2018'].meaning}); set brats.label_codes if they mean something else"
        )
    if without_3:
        warnings.append(
            "label maps hold 4 and none holds 3; by their names 4 is taken as resection cavity, as in brats2024; set "
            "brats.label_codes=brats2018 if it is enhancing tumour"
        )
    return found, warnings


def _codes_of_naming(name: str) -> tuple[str, ...]:
    """The codes that the challenge of a name used; none where the name is of no known challenge."""
    return next((codes for pattern, codes in _NAMINGS if re.search(pattern, name, re.IGNORECASE)), ())


def _readings(present: frozenset[int], candidates: Sequence[str]) -> list[str]:
    """The first of each group of candidates that say the same of the values present."""
    labels = np.array(sorted(present), np.uint8)
    readings = {}
    for codes in candidates:
        if present <= LABEL_CODES[codes].values:
            readings.setdefault((LABEL_CODES[codes].regions, regions_of(labels, codes).tobytes()), codes)
    return list(readings.values())


def _listed(present: frozenset[int]) -> str:
    return "labels " + ", ".join(str(value) for value in sorted(present - {0}))
