"""Recognize BraTS cases by their file names, and decode the label codes of each challenge into nested regions.

The label codes differ between challenges, see `LABEL_CODES`. The evaluated regions are the same: the whole tumor, its
core (all but the edema) and the enhancing tumor (Menze et al. 2015, IEEE Trans. Med. Imaging 34(10); Baid et al. 2021,
arXiv:2107.02314). Since 2024, label maps of treated gliomas include the resection cavity, which is in no region: the
core is enhancing tissue and non-enhancing core, the whole tumor adds the surrounding FLAIR hyperintensity (de Verdier
et al. 2024, arXiv:2405.18368). Pediatric tumors have their own codes, with the cyst in the core (Fathi Kazerooni et
al. 2024, arXiv:2404.15009), and meningiomas before radiotherapy have only the gross tumor volume (LaBella et al. 2024,
arXiv:2405.18383).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mrcnn.data.problems import Problems
from mrcnn.data.readers.image_files import files_below
from mrcnn.errors import InputError

MODALITIES = ("flair", "t1", "t1ce", "t2")
LABELS = "seg"
_KIND_NAMES = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
    LABELS: ("seg", "segm", "gtv", "tumor_segmentation"),
}
_KINDS = {name: kind for kind, names in _KIND_NAMES.items() for name in names}
_FILE = re.compile(rf"(?:(.+)[-_])?({'|'.join(_KINDS)})(?:[-_]norm)?\.nii(?:\.gz)?", re.IGNORECASE)
_OWN_NAME = re.compile(r"brats|upenn-gbm|ucsf-pdgm|flair|t2f|t1(ce|c|gd|n)|t2w|_gtv", re.IGNORECASE)
_VISIT = re.compile(r"(BraTS(?:-[A-Za-z]+)+-\d+)-\d+|(UPENN-GBM-\d+|UCSF-PDGM-\d+)_.+")


@dataclass(frozen=True)
class CaseFiles:
    """Hold the name of a case and its files by kind: `MODALITIES` and `LABELS`."""

    name: str
    files: Mapping[str, Path]


def file_kind(path: Path) -> str | None:
    """Determine the kind of a file by its name: one of `MODALITIES`, `LABELS`, or None."""
    match = _FILE.fullmatch(path.name)
    return None if match is None or path.name.startswith(".") else _KINDS[match[2].lower()]


def find_cases(root: Path, problems: Problems, *, require_labels: bool = True) -> list[CaseFiles]:
    """Find all cases below a folder, sorted by name.

    The files of one folder are one case with the name of the folder, unless a kind occurs twice; then files with the
    same prefix are one case. This handles the case of BraTS 2020 whose label map has another prefix. Incomplete and
    ambiguous cases are added to `problems`; without `require_labels`, a case needs no label map.

    Raises:
        InputError: the folder does not exist or has no BraTS files.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with cases of <case>_flair.nii.gz … <case>_seg.nii.gz")
    folders: dict[Path, list[tuple[str, str, Path]]] = defaultdict(list)
    for path in sorted(files_below(root, "**/*.nii*")):
        if match := _FILE.fullmatch(path.name):
            folders[path.parent].append((match[1] or path.parent.name, _KINDS[match[2].lower()], path))
    if not folders:
        raise InputError(
            f"{root}: holds no case; expected files such as <case>_flair.nii.gz or <case>-t2f.nii.gz, and _seg beside"
        )
    cases = []
    for folder, found in folders.items():
        if len({kind for _, kind, _ in found}) == len(found):
            found = [(folder.resolve().name, kind, path) for _, kind, path in found]
        by_case: dict[str, dict[str, Path]] = defaultdict(dict)
        for name, kind, path in found:
            if kind in by_case[name]:
                problems.add(f"{name}: {by_case[name][kind].name} and {path.name} are both {kind}; expected one")
            by_case[name][kind] = path
        cases += [CaseFiles(name, files) for name, files in by_case.items()]
    for name, count in Counter(case.name for case in cases).items():
        if count > 1:
            problems.add(f"{name}: {count} cases have this name; expected each once")
    for case in cases:
        if require_labels and LABELS not in case.files:
            problems.add_skippable(
                f"{case.name}: has no label map; expected a file that ends in _seg.nii.gz or -seg.nii.gz"
            )
    return sorted(cases, key=lambda case: case.name)


def has_cases(root: Path) -> bool:
    """Check for label maps with volumes beside them that only BraTS names so."""
    folders = {path.parent for path in files_below(root, "**/*.nii*") if file_kind(path) == LABELS}
    return any(_OWN_NAME.search(path.name) for folder in folders for path in folder.iterdir() if file_kind(path))


def choose_modalities(
    requested: Sequence[str] | None, cases: Sequence[CaseFiles], problems: Problems
) -> tuple[tuple[str, ...], list[str]]:
    """Return the requested modalities, or by default those that every case has, and warnings."""
    counts = Counter(kind for case in cases for kind in case.files)
    if requested is None:
        chosen = tuple(name for name in MODALITIES if counts[name] == len(cases))
        left_out = [f"{name} ({counts[name]})" for name in MODALITIES if 0 < counts[name] < len(cases)]
        if not chosen:
            problems.add(f"no modality is there in all {len(cases)} cases; found {', '.join(left_out) or 'none'}")
        if not left_out:
            return chosen, []
        return chosen, [f"of {len(cases)} cases not all have {', '.join(left_out)}; read: {', '.join(chosen)}"]
    if not requested or len(set(requested)) != len(requested) or not set(requested) <= set(MODALITIES):
        raise InputError(f"modalities={list(requested)}: expected some of {', '.join(MODALITIES)}, each once")
    for case in cases:
        for name in requested:
            if name not in case.files:
                problems.add_skippable(f"{case.name}: has no {name}; expected it, for modalities={list(requested)}")
    return tuple(requested), []


def patient_from_case(case: str) -> str:
    """Remove the visit from a case name: its number since 2023, `_11` of UPENN-GBM, `_FU003d` of UCSF-PDGM."""
    visit = _VISIT.fullmatch(case)
    return (visit[1] or visit[2]) if visit else case


REGIONS = ("whole_tumor", "tumor_core", "enhancing_tumor")
"""Tumor regions; each contains the next."""


@dataclass(frozen=True)
class LabelCodes:
    """Define the label codes of one challenge.

    Attributes:
        meaning: description for messages.
        core: codes of the tumor core, including `enhancing`.
        enhancing: code of the enhancing tumor.
        edema: code of tissue in the whole tumor outside its core.
        outside: codes outside all regions.
    """

    meaning: str
    core: frozenset[int] = frozenset()
    enhancing: int | None = None
    edema: int = 2
    outside: frozenset[int] = frozenset({0})

    @property
    def values(self) -> frozenset[int]:
        """Valid values of a label map."""
        return self.outside | self.core | {self.edema}

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of `REGIONS` that the codes distinguish."""
        return REGIONS if self.core else REGIONS[:1]

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """Codes of each region."""
        core, enhancing = tuple(sorted(self.core)), () if self.enhancing is None else (self.enhancing,)
        return ((*core, self.edema), core, enhancing)[: len(self.regions)]


LABEL_CODES: Mapping[str, LabelCodes] = MappingProxyType(
    {
        "brats2013": LabelCodes("1 necrosis, 2 edema, 3 non-enhancing, 4 enhancing tumor", frozenset({1, 3, 4}), 4),
        "brats2018": LabelCodes("1 non-enhancing core, 2 edema, 4 enhancing tumor", frozenset({1, 4}), 4),
        "brats2023": LabelCodes("1 non-enhancing core, 2 edema, 3 enhancing tumor", frozenset({1, 3}), 3),
        "brats2024": LabelCodes(
            "1 non-enhancing core, 2 edema, 3 enhancing tumor, 4 resection cavity",
            frozenset({1, 3}),
            3,
            outside=frozenset({0, 4}),
        ),
        "brats2024_ped": LabelCodes(
            "1 enhancing tumor, 2 non-enhancing, 3 cyst, 4 edema", frozenset({1, 2, 3}), 1, edema=4
        ),
        "brats2024_men_rt": LabelCodes("1 gross tumor volume", edema=1),
        "msd": LabelCodes("1 edema, 2 non-enhancing core, 3 enhancing tumor", frozenset({2, 3}), 3, edema=1),
    }
)
"""Label codes by first year of use; `msd` is task 1 of the Medical Segmentation Decathlon."""

_NAMINGS = (
    (r"BraTS-MEN-RT-\d+", ("brats2024_men_rt",)),
    (r"BraTS-PEDs?-\d+", ("brats2023", "brats2024_ped")),
    (r"BraTS-(GLI|MET)-\d+", ("brats2023", "brats2024")),
    (r"BraTS-[A-Z]+-\d+", ("brats2023",)),
    (r"brats[-_]?(201[2-6](?!\d)|tcia_pat)", ("brats2013",)),
    (r"brats((1[7-9]|20)_|[-_]?20(1[7-9]|2[0-2])(?!\d))|UPENN-GBM-|phantom_", ("brats2018",)),
)
"""Patterns of case names, and the label codes used with these names."""


def label_regions(labels: np.ndarray, codes: str) -> np.ndarray:
    """Convert a label map (…) to its regions (K, …) bool, in the order of `LabelCodes.regions`."""
    return np.stack([np.isin(labels, each) for each in LABEL_CODES[codes].sets])


def label_map(regions: np.ndarray, codes: str) -> np.ndarray:
    """Convert regions (K, …) bool to a label map (…) uint8: the innermost region has priority, outside is 0.

    Codes that share a region are not restored: in the 2013 codes, necrosis (1) and non-enhancing core (3) become 1; the
    cyst of pediatric tumors becomes non-enhancing (2).
    """
    known = LABEL_CODES[codes]
    of_region = (known.edema, min(known.core - {known.enhancing}, default=0), known.enhancing)
    labels = np.zeros(regions.shape[1:], np.uint8)
    for region, code in zip(regions, of_region[: len(known.regions)], strict=True):
        labels[region] = code
    return labels


def output_label_codes(name: str) -> str:
    """Choose the codes with all three regions for a label map of a case; `brats2018` for an unknown case name."""
    complete = [codes for codes in _codes_of_naming(name) or ("brats2018",) if LABEL_CODES[codes].regions == REGIONS]
    return complete[-1] if complete else "brats2023"


def infer_label_codes(names: Sequence[str], values: Sequence[frozenset[int]]) -> tuple[list[str], list[str]]:
    """Infer the label codes of each case from case names and label values, and return warnings.

    The name pattern of a case gives the possible challenges, and the values in all label maps with this pattern select
    the codes. With unknown names, label maps without 3 are read as `brats2018`, with a warning; those with 3 are
    ambiguous.

    Raises:
        InputError: the codes of some cases are ambiguous or unknown.
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
            "volumes.label_codes to one of "
            + "; ".join(f"{name} ({codes.meaning})" for name, codes in LABEL_CODES.items())
        )
    warnings = []
    if unnamed:
        warnings.append(
            f"{unnamed} of {len(names)} cases have names of no known challenge; their labels are taken as brats2018 "
            f"({LABEL_CODES['brats2018'].meaning}); set volumes.label_codes if they mean something else"
        )
    if without_3:
        warnings.append(
            "label maps hold 4 and none holds 3; by their names 4 is taken as resection cavity, as in brats2024; set "
            "volumes.label_codes=brats2018 if it is enhancing tumor"
        )
    return found, warnings


def _codes_of_naming(name: str) -> tuple[str, ...]:
    """Return the possible codes for a case name; empty for an unknown name pattern."""
    return next((codes for pattern, codes in _NAMINGS if re.search(pattern, name, re.IGNORECASE)), ())


def _readings(present: frozenset[int], candidates: Sequence[str]) -> list[str]:
    """Return the first candidate of each group that gives the same regions for the values present."""
    labels = np.array(sorted(present), np.uint8)
    readings = {}
    for codes in candidates:
        if present <= LABEL_CODES[codes].values:
            readings.setdefault((LABEL_CODES[codes].regions, label_regions(labels, codes).tobytes()), codes)
    return list(readings.values())


def _listed(present: frozenset[int]) -> str:
    return "labels " + ", ".join(str(value) for value in sorted(present - {0}))
