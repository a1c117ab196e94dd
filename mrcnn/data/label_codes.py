"""The codes of the BraTS label maps, and the three nested regions that they stand for.

The challenges changed the codes: 2012–2016 1 necrosis, 2 edema, 3 non-enhancing core, 4 enhancing tumour; 2017–2022 1
necrosis and non-enhancing core, 2 edema, 4 enhancing tumour; from 2023 on the same with 3 for the enhancing tumour. The
regions by which they rank are the same: the whole tumour is all of it, its core all but the edema (Menze et al. 2015,
IEEE Trans. Med. Imaging 34(10); Baid et al. 2021, arXiv:2107.02314).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

REGIONS = ("whole_tumor", "tumor_core", "enhancing_tumor")
"""Each within the one before."""
_CORE, _EDEMA = 1, 2


@dataclass(frozen=True)
class LabelCodes:
    """Codes of one challenge: `core` are those of the tumour core, of which `enhancing` is one; 2 is always edema."""

    core: frozenset[int]
    enhancing: int

    @property
    def values(self) -> frozenset[int]:
        """All that a label map may hold."""
        return self.core | {0, _EDEMA}


LABEL_CODES: Mapping[str, LabelCodes] = MappingProxyType(
    {
        "brats2013": LabelCodes(frozenset({1, 3, 4}), 4),
        "brats2018": LabelCodes(frozenset({1, 4}), 4),
        "brats2023": LabelCodes(frozenset({1, 3}), 3),
    }
)


def regions_of(labels: np.ndarray, codes: str) -> np.ndarray:
    """(3, …) bool, in the order of `REGIONS`, of a label map of any shape."""
    known = LABEL_CODES[codes]
    return np.stack([labels > 0, np.isin(labels, sorted(known.core)), labels == known.enhancing])


def label_map(regions: np.ndarray, codes: str) -> np.ndarray:
    """The uint8 label map (…) of regions (3, …): the innermost region wins, what lies in none is 0.

    The 2013 codes also tell necrosis (1) from non-enhancing core (3); the regions do not, and both become 1.
    """
    whole, core, enhancing = regions
    labels = np.where(whole, _EDEMA, 0).astype(np.uint8)
    labels[core] = _CORE
    labels[enhancing] = LABEL_CODES[codes].enhancing
    return labels


def guess_codes(names: Sequence[str], values: Sequence[frozenset[int]]) -> tuple[list[str], list[str]]:
    """The codes of each case by the values in its label map, and warnings.

    With 4 it is 2018, or with 3 besides 2013. With 3 and no 4 it is 2023 or, without enhancing tumour, 2013: 2013 where
    another case of the same naming has both, else 2023, with a warning unless the name is of that challenge. With
    neither, the regions do not depend on the codes, and the case goes with others of its naming.
    """
    found: list[str | None] = []
    of_naming: dict[str, str] = {}
    for name, present in zip(names, values, strict=True):
        codes = None
        if 4 in present:
            codes = "brats2013" if 3 in present else "brats2018"
            if of_naming.get(_naming(name)) != "brats2013":
                of_naming[_naming(name)] = codes
        found.append(codes)
    doubtful = 0
    for position, (name, present) in enumerate(zip(names, values, strict=True)):
        if found[position] is None:
            alike = of_naming.get(_naming(name), "brats2023")
            found[position] = alike if 3 not in present or alike == "brats2013" else "brats2023"
            doubtful += 3 in present and alike != "brats2013" and not _NAMED_2023.match(name)
    if not doubtful:
        return found, []
    return found, [
        f"{doubtful} of {len(names)} label maps hold 3 and no 4; 3 is taken as enhancing tumour, as since BraTS 2023; "
        "set label_codes=brats2013 if it is non-enhancing tumour"
    ]


_NAMED_2023 = re.compile(r"BraTS-[A-Z]+-\d+-\d+")


def _naming(name: str) -> str:
    """`Brats18_2013_21_1` and `Brats18_2013_7_1` have one naming."""
    return re.sub(r"\d+", "0", name)
