"""Read the labels of a case from NIfTI, masks, DICOM segmentations and structure sets, and assign classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tokenize import TokenError

import nibabel
import numpy as np
import tifffile
from scipy.ndimage import find_objects

from mrcnn.cache_folder import cache_folder
from mrcnn.data.digest import load_arrays, save_arrays
from mrcnn.data.io.images import read_header
from mrcnn.data.io.label_images import read_label_image
from mrcnn.data.io.nifti import Nifti
from mrcnn.data.io.pictures import DECODING_ERRORS
from mrcnn.data.io.volume_files import DICOM_TO_NIFTI, check_same_grid, labels_digest, open_volume
from mrcnn.data.io.volumes import background_value
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.reader_options import VolumesOptions
from mrcnn.data.readers.orientation import align_to_image
from mrcnn.data.readers.volumes.cases import STACK_SUFFIXES, Case, Classes
from mrcnn.data.readers.volumes.pairs import label_map_names
from mrcnn.errors import InputError

_VERSION = 2  # increase when the same files give other cached results
_HIGHEST = 65535
_MOST_SEGMENTS = 63
_MOST_CLASSES = 20  # values of a label map without stated classes; more are numbered instances


@dataclass(frozen=True)
class CaseSummary:
    """Summarize a case before its classes are known.

    Attributes:
        shape: (slices, rows, columns) of the axial stack.
        spacing_mm: voxel size along these axes, or None.
        content: for each axis of the stack (n,) bool, positions with voxels unlike the background or with labels.
        labels: label map cropped to its content, unsigned integers; with `names`, bit k is segment k.
        corner: origin of the crop in the stack.
        names: names of the segments of a DICOM object; None for a label map.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    content: tuple[np.ndarray, np.ndarray, np.ndarray]
    labels: np.ndarray
    corner: tuple[int, int, int]
    names: tuple[str, ...] | None = None

    def full_labels(self) -> np.ndarray:
        """Return the label map of the whole stack."""
        whole = np.zeros(self.shape, self.labels.dtype)
        whole[tuple(slice(start, start + side) for start, side in zip(self.corner, self.labels.shape, strict=True))] = (
            self.labels
        )
        return whole

    def values(self) -> frozenset[int]:
        """Return the distinct values of the label map."""
        return frozenset(np.unique(self.labels).tolist()) | {0}


@dataclass(frozen=True)
class LabelRule:
    """Convert the labels of a case to one region per class.

    Attributes:
        sets: values (or bits, as powers of two, if `bits`) of each class.
        label_codes: codes of BraTS that the sets come from, or None.
        by_case: whether values are instances, so that the sets differ between cases.
    """

    class_names: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...] = field(default=())
    bits: bool = False
    label_codes: str | None = None
    by_case: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """Value of each class in a label map that is written: the first of its own if classes are single values."""
        single = not self.bits and not self.by_case and all(len(each) == 1 for each in self.sets)
        return tuple(each[0] for each in self.sets) if single else tuple(range(1, len(self.sets) + 1))

    def regions(self, labels: np.ndarray) -> np.ndarray:
        """Return (K, …) bool, the region of each class in labels (…)."""
        if self.bits:
            return np.stack([(labels & np.array(sum(each), labels.dtype)) > 0 for each in self.sets])
        return np.stack([np.isin(labels, each) for each in self.sets])


def open_case(case: Case, highest: int | None = None) -> CaseSummary | InputError:
    """Summarize a case, from the cache if its files are unchanged, or return the error.

    `highest` is the largest valid value of a label map; None for 65535.
    """
    try:
        key = f"{case.source.digest()[:32]}-{labels_digest(case.labels)[:32]}-{highest or _HIGHEST}-{_VERSION}"
        if len(case.labels) > 1:  # the names of the files become classes
            key += f"-{hashlib.sha256(repr(label_map_names(case.labels)).encode()).hexdigest()[:32]}"
        path = cache_folder() / "heads" / f"{key}.npz"
        facts = load_arrays(path)
        if not {"shape", "spacing_mm", "content", "labels", "corner", "names"} <= facts.keys():
            facts = _summarize_pictures(case) if case.pictures else _summarize(case, highest or _HIGHEST)
            save_arrays(path, **facts)
    except InputError as error:
        return error
    shape = tuple(facts["shape"].tolist())
    slices, rows, columns = np.split(facts["content"], np.cumsum(shape)[:-1])
    spacing, names = tuple(facts["spacing_mm"].tolist()), tuple(facts["names"].tolist())
    corner = tuple(facts["corner"].tolist())
    is_map = len(case.labels) == 1 and (
        case.pictures or not case.source.dicom or case.labels[0].suffix.lower() in STACK_SUFFIXES
    )
    return CaseSummary(
        shape, spacing or None, (slices, rows, columns), facts["labels"], corner, None if is_map else names
    )


def _summarize(case: Case, highest: int) -> dict[str, np.ndarray]:
    """Read the labels, the headers of all channels, and the voxels of the first one to find its content."""
    if case.frames:
        return _summarize_frames(case)
    opened = case.source.open()
    first = opened[0].stack()
    names: list[str] = []
    if case.source.dicom:
        names, labels = _read_objects(case, opened[0])
    elif len(case.labels) == 1:
        file = open_volume(case.labels[0])
        check_same_grid(opened[0], file)
        labels = _read_label_map(file, highest)
    else:
        names, labels = _read_label_maps(case, opened[0], highest)
    inside = (first != background_value(first)) | (labels > 0)
    return _facts(labels, inside, opened[0].spacing_mm, names)


def _facts(
    labels: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float], names: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    crop = next(iter(find_objects((labels > 0).astype(np.uint8))), None) or (slice(0, 0),) * 3
    others = ((1, 2), (0, 2), (0, 1))
    return {
        "shape": np.array(labels.shape),
        "spacing_mm": np.array(spacing_mm, np.float64),
        "content": np.concatenate([inside.any(axis=axes) for axes in others]),
        "labels": labels[crop],
        "corner": np.array([span.start for span in crop], np.int64),
        "names": np.array(names, np.str_),
    }


def _read_label_map(file: Nifti, highest: int) -> np.ndarray:
    """Read a label map (slices, rows, columns) as uint8 or uint16. Some programs store integers as floats."""
    stack = file.stack()
    labels = np.rint(stack.astype(np.float64)).clip(0, _HIGHEST).astype(np.uint16)
    if (np.abs(stack - labels) > 1e-3).any() or labels.max() > highest:
        found = np.unique(stack)
        shown = ", ".join(f"{value:g}" for value in found[:8]) + (", …" if len(found) > 8 else "")
        raise InputError(f"{file.path}: holds the values {shown}; expected the labels 0 to {highest}")
    return labels if labels.max() > 255 else labels.astype(np.uint8)


def _read_label_maps(case: Case, grid: Nifti, highest: int) -> tuple[list[str], np.ndarray]:
    """Read a label map for each class as a stack of bits on the grid of their volume."""
    names: list[str] = []
    bits = np.zeros(grid.shape, np.uint64)
    for name, path in zip(label_map_names(case.labels), case.labels, strict=True):
        file = open_volume(path)
        check_same_grid(grid, file)
        _add_bits(names, bits, [name], _read_label_map(file, highest)[None] > 0, path)
    return names, bits


def _read_objects(case: Case, grid: Nifti) -> tuple[list[str], np.ndarray]:
    """Read DICOM segmentations and structure sets as a stack of bits on the grid of their series."""
    from mrcnn.data.io.dicom_contours import read_structure_set
    from mrcnn.data.io.dicom_file import element_text, open_dicom

    columns, rows, slices = grid.image.shape
    names: list[str] = []
    bits = np.zeros((slices, rows, columns), np.uint64)
    for path in case.labels:
        if element_text(open_dicom(path, ("Modality",), pixels=False), "Modality") == "RTSTRUCT":
            found, regions, _ = read_structure_set(path, DICOM_TO_NIFTI @ grid.image.affine, (slices, rows, columns))
        else:
            found, regions = _read_seg(path, case, slices)
        _add_bits(names, bits, found, regions, path)
    unsorted = nibabel.Nifti1Image(bits.transpose(2, 1, 0), grid.image.affine, dtype=np.uint64)
    return names, Nifti(grid.path, unsorted).stack()


def _read_seg(path: Path, case: Case, slices: int) -> tuple[list[str], np.ndarray]:
    from mrcnn.data.io.dicom_file import element_text, open_dicom
    from mrcnn.data.io.dicom_segmentation import read_dicom_seg

    uids = [element_text(open_dicom(file, ("SOPInstanceUID",), pixels=False), "SOPInstanceUID")
            for file in case.source.files]  # fmt: skip
    return read_dicom_seg(path, uids, slices if len(uids) == 1 else 1)


def _add_bits(names: list[str], bits: np.ndarray, found: Sequence[str], regions: np.ndarray, path: Path) -> None:
    for name, region in zip(found, regions, strict=True):
        if name not in names:
            names.append(name)
        if len(names) > _MOST_SEGMENTS:
            raise InputError(f"{path}: has more than {_MOST_SEGMENTS} segments; expected volumes.classes of fewer")
        bits[region] |= np.uint64(1 << names.index(name))


def _summarize_frames(case: Case) -> dict[str, np.ndarray]:
    """Read the labels of a DICOM file whose frames have no position, such as an ultrasound loop."""
    from mrcnn.data.io.dicom import count_frames, pixel_spacing
    from mrcnn.data.io.dicom_file import check_image, open_dicom, translate_errors

    path = case.source.files[0]
    with translate_errors(path):
        header = open_dicom(path)
        shape = (count_frames(path), *check_image(header))
        spacing = pixel_spacing(header)
    spacing_mm = (np.nan, *spacing) if spacing else ()
    if case.labels[0].suffix.lower() in STACK_SUFFIXES:
        labels = _read_label_stack(case.labels[0], shape)
        return _facts(labels, np.ones(shape, bool), spacing_mm)
    names: list[str] = []
    bits = np.zeros(shape, np.uint64)
    for file in case.labels:
        _add_bits(names, bits, *_read_seg(file, case, shape[0]), file)
    return _facts(bits, np.ones(shape, bool), spacing_mm, names)


def _read_label_stack(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read the labels (frames, rows, columns) uint16 of an NPY file, or of a TIFF file with a page for each frame."""
    try:
        if path.suffix.lower() == ".npy":
            labels = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with tifffile.TiffFile(path) as tiff:
                pages = [page.shape for page in tiff.pages]
                if pages != [shape[1:]] * shape[0]:
                    raise InputError(
                        f"{path}: has {len(pages)} pages of shape {pages[:1]}; expected {shape[0]} of {shape[1:]}"
                    )
                labels = tiff.asarray(key=slice(None))
    except (*DECODING_ERRORS, TokenError) as error:
        raise InputError(f"{path}: expected a readable label map of frames ({error})") from error
    if labels.shape != shape or labels.dtype.kind not in "bui" or labels.min() < 0 or labels.max() > _HIGHEST:
        raise InputError(
            f"{path}: holds {labels.dtype} of shape {labels.shape}; expected whole numbers from 0 to {_HIGHEST} of "
            f"shape {shape}, the frames, rows and columns of its DICOM file"
        )
    return labels.astype(np.uint16)


def _summarize_pictures(case: Case) -> dict[str, np.ndarray]:
    header = read_header(case.source.files[0])
    label = align_to_image(read_label_image(case.labels[0]), asdict(header), str(case.labels[0]))
    if label.max(initial=0) > _HIGHEST:
        raise InputError(f"{case.labels[0]}: holds the value {label.max()}; expected the labels 0 to {_HIGHEST}")
    labels = label.astype(np.uint16)[None]
    return _facts(labels, np.ones(labels.shape, bool), ())


def rules_for(
    cases: Sequence[Case],
    summaries: Sequence[CaseSummary],
    classes: Classes | None,
    options: VolumesOptions,
    problems: Problems,
) -> tuple[list[LabelRule], list[str]]:
    """Return how the labels of each case become classes, and warnings; labels that are no class are problems.

    `classes` has values or names of segments by class; None makes a class of each.
    """
    if summaries[0].names is not None:
        return _rules_by_name(summaries, classes)
    if classes and options.classes is None and any(case.instances for case in cases):
        return _rules_by_instance(cases, summaries, tuple(classes), problems), []
    present = frozenset().union(*(summary.values() for summary in summaries)) - {0}
    warnings: list[str] = []
    if options.slice_instances == "values":
        name = next(iter(classes or ()), "object") if options.classes else "object"
        return [LabelRule((name,), (tuple(sorted(present)) or (1,),))] * len(summaries), []
    if classes is None:
        if len(present) > _MOST_CLASSES:
            problems.add(
                f"the label maps hold {len(present)} values; expected classes: set volumes.slice_instances=values if "
                "each value is an instance, or volumes.classes"
            )
        single = len(present) < 2
        classes = {"object" if single else f"label_{value}": (value,) for value in sorted(present) or (1,)}
        if not single:
            warnings.append(
                f"the values {', '.join(map(str, sorted(present)))} of the label maps are the classes "
                f"{', '.join(classes)}; set volumes.classes to name them"
            )
    sets = []
    for name, values in classes.items():
        if words := [value for value in values if isinstance(value, str)]:
            raise InputError(f"volumes.classes: {name}: {words[0]}; expected values of the label maps")
        sets.append(tuple(int(value) for value in values))
    known = frozenset().union(*sets)
    if options.classes is not None and (left := sorted(present - known)):
        warnings.append(
            f"values of the label maps are in no class and count as background: {', '.join(map(str, left))}"
        )
    elif options.classes is None:
        for case, summary in zip(cases, summaries, strict=True):
            if foreign := summary.values() - known - {0}:
                problems.add_skippable(
                    f"{case.name}: the label map holds {min(foreign)}; expected 0 or one of "
                    f"{', '.join(map(str, sorted(known)))}, the labels of dataset.json",
                    case.source.files[0],
                )
    return [LabelRule(tuple(classes), tuple(sets))] * len(summaries), warnings


def _rules_by_instance(
    cases: Sequence[Case], summaries: Sequence[CaseSummary], class_names: tuple[str, ...], problems: Problems
) -> list[LabelRule]:
    """Assign the instances of label maps of nnDetection to the classes that the file of each case states."""
    rules = []
    for case, summary in zip(cases, summaries, strict=True):
        if foreign := summary.values() - {0, *(value for value, _ in case.instances)}:
            problems.add_skippable(
                f"{case.name}: the label map holds {min(foreign)}, which its JSON file does not list as an instance",
                case.source.files[0],
            )
        sets = [
            tuple(value for value, number in case.instances if number == position)
            for position in range(len(class_names))
        ]
        rules.append(LabelRule(class_names, tuple(sets), by_case=True))
    return rules


def _rules_by_name(summaries: Sequence[CaseSummary], classes: Classes | None) -> tuple[list[LabelRule], list[str]]:
    """Assign segments to classes by name, regardless of letter case."""
    named = sorted({name for summary in summaries for name in summary.names or ()}, key=str.casefold)
    if classes is None:
        classes = {}
        for name in named:
            same = next((other for other in classes if other.casefold() == name.casefold()), name)
            classes[same] = (*classes.get(same, ()), name)
    wanted = {name: {str(value).casefold() for value in values} for name, values in classes.items()}
    if not wanted:
        raise InputError("the segmentations and structure sets have no segment; expected one")
    rules = []
    for summary in summaries:
        bits = {name.casefold(): 0 for name in summary.names or ()}
        for number, name in enumerate(summary.names or ()):
            bits[name.casefold()] |= 1 << number
        sets = tuple(tuple(bits[name] for name in sorted(names) if name in bits) for names in wanted.values())
        rules.append(LabelRule(tuple(wanted), sets, bits=True))
    known = set().union(*wanted.values())
    left = [name for name in named if name.casefold() not in known]
    return rules, name_warnings("segments are in no class and count as background", left)


def label_map_of_regions(regions: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Convert regions (K, …) bool to a label map (…) uint8, or uint16 for values above 255; later classes win."""
    labels = np.zeros(regions.shape[1:], np.uint8 if max(values, default=0) < 256 else np.uint16)
    for region, value in zip(regions, values, strict=True):
        labels[region] = value
    return labels
