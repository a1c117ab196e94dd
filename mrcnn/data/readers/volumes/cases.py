"""Find the cases of a data set of volumes: nnU-Net and Decathlon folders, patterns, and DICOM series.

A case is one volume of one or several channels with its label map, segmentation or structure set.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mrcnn.data.io.images import is_dicom_file
from mrcnn.data.io.label_images import LABEL_SUFFIXES, LOSSY_SUFFIXES
from mrcnn.data.io.nifti import SUFFIXES, count_channels
from mrcnn.data.io.volume_files import VolumeFiles, is_tiff_stack
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.reader_options import VolumesOptions
from mrcnn.data.readers.image_files import files_below, load_json, parse_integer, read_bytes
from mrcnn.errors import InputError, counted

Classes = dict[str, tuple[int | str, ...]]
"""Values in the label map, or names of segments, by class."""
_LABEL_WORD = "msk|seg|segm|segmentation|label|labels|mask|masks|gt|groundtruth|ground_truth|annotation|truth"
LABEL_NAME = re.compile(
    rf"(?:(?P<case>.+?)[ _.\-]+)?(?:{_LABEL_WORD})|(?:{_LABEL_WORD})(?:[ _.\-]+(?P<end>.+)|(?P<number>\d+))", re.I
)
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_SPLITTED = "raw_splitted"
_LOOKED_AT = 5  # JSON files beside label maps that are opened for instances of nnDetection
_PICTURES = (*LABEL_SUFFIXES, *LOSSY_SUFFIXES)
DICOM_LABELS = ("Segmentation", "RT Structure Set")
STACK_SUFFIXES = (".npy", ".tif", ".tiff")
"""Label maps of all frames of a DICOM file: an array, or a page for each frame."""


@dataclass(frozen=True)
class Case:
    """Hold the files of a case.

    Attributes:
        source: volume files; for 2-D images, one file per channel.
        labels: label map, or DICOM objects.
        pictures: whether the files are 2-D images.
        frames: whether the file is a DICOM file of frames without positions.
        patient: pseudonym of the patient in the files, or None.
        instances: (value, position of the class) of each instance of a label map of nnDetection.
    """

    name: str
    source: VolumeFiles
    labels: tuple[Path, ...]
    pictures: bool = False
    frames: bool = False
    patient: str | None = None
    instances: tuple[tuple[int, int], ...] = ()

    def with_channels(self, chosen: Sequence[int]) -> Case:
        """Select channels by position."""
        source = self.source
        if source.dicom or source.count == 1:
            return self
        if source.channels:
            return replace(self, source=replace(source, channels=tuple(source.channels[index] for index in chosen)))
        return replace(self, source=replace(source, files=tuple(source.files[index] for index in chosen)))


@dataclass
class FoundCases:
    """Hold the cases of a data set, the names of their channels and what its description says of classes."""

    cases: list[Case] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    classes: Classes | None = None
    warnings: list[str] = field(default_factory=list)


def nifti_stem(path: Path) -> str:
    """Return the file name without `.nii` or `.nii.gz`, or any other suffix."""
    for suffix in SUFFIXES[::-1]:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def has_description(root: Path) -> bool:
    """Check for the `dataset.json` of nnU-Net, nnDetection or the Decathlon, here or in a folder below."""
    return bool(_described_roots(root))


def _described_roots(root: Path) -> list[Path]:
    for folders in ([root], sorted(root.glob("*/")), sorted(root.glob("*/*/"))):
        if found := [folder for folder in folders if (folder / "dataset.json").is_file() and _has_training(folder)]:
            return found
    return []


def _has_training(folder: Path) -> bool:
    return any((_files_of(folder) / name).is_dir() for name in ("labelsTr", "imagesTr"))


def _files_of(root: Path) -> Path:
    """Return the folder of `imagesTr`, which nnDetection has below `raw_splitted`."""
    return root / _SPLITTED if (root / _SPLITTED).is_dir() else root


def find_described(root: Path, options: VolumesOptions, problems: Problems) -> FoundCases:
    """Find the cases of a folder with `dataset.json`, `imagesTr` and `labelsTr`, and `labelsTs` if it exists.

    Raises:
        InputError: `dataset.json` is invalid, or there are several.
    """
    roots = _described_roots(root) or [root]
    if len(roots) > 1:
        raise InputError(f"{root}: holds the data sets {', '.join(each.name for each in roots)}; expected one of them")
    root = roots[0]
    file = root / "dataset.json"
    content = load_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected an object with labels and channel_names or modality")
    names = content.get("channel_names", content.get("modality", content.get("modalities")))
    if not isinstance(names, dict) or not names or not all(str(key).isdigit() for key in names):
        raise InputError(f"{file}: channel_names: expected an object such as {{'0': 'CT'}}")
    channels = tuple(str(names[key]) for key in sorted(names, key=int))
    base = _files_of(root)
    listed = [path for path in _files(base / "labelsTr") if path.suffix.lower() == ".json"]
    by_instance = any(b'"instances"' in read_bytes(path) for path in listed[:_LOOKED_AT])
    labels = content.get("labels")
    if by_instance and isinstance(labels, dict) and all(str(key).isdigit() for key in labels):
        classes: Classes = {str(labels[key]): (int(key) + 1,) for key in sorted(labels, key=int)}
    else:
        classes = _described_classes(file, labels)
    found = FoundCases([], channels, classes)
    for part in ("Tr", "Ts"):
        labels = [
            path for path in _files(base / f"labels{part}") if path.name.lower().endswith((*SUFFIXES, *_PICTURES))
        ]
        images: dict[str, list[Path]] = defaultdict(list)
        for path in (path for path in _files(base / f"images{part}") if path.suffix.lower() != ".json"):  # spacing
            numbered = _CHANNEL.fullmatch(nifti_stem(path))
            images[numbered[1] if numbered else nifti_stem(path)].append(path)
        for label in labels:
            case = nifti_stem(label)
            of_case = images.pop(case, [])
            if not of_case:
                problems.add_skippable(f"{case}: labels{part}/{label.name} has no image in images{part}")
            elif (source := _described_source(case, of_case, channels, problems)) is not None:
                pictures = not label.name.lower().endswith(SUFFIXES) and not is_tiff_stack(label)
                try:
                    instances = _read_instances(_instance_file(label), len(classes)) if by_instance else ()
                except InputError as error:
                    problems.add_skippable(str(error), source.files[0])
                    continue
                found.cases.append(Case(case, source, (label,), pictures=pictures, instances=instances))
        if images and labels:
            for case in images:
                problems.add_skippable(f"{case}: has no label map; expected labels{part}/{case} with the same suffix")
        elif images:
            found.warnings.append(
                f"images{part}: {counted(len(images), 'case without labels is', 'cases without labels are')} not read"
            )
    return found


def _instance_file(label: Path) -> Path:
    return label.with_name(f"{nifti_stem(label)}.json")


def _read_instances(file: Path, classes: int) -> tuple[tuple[int, int], ...]:
    """Read nnDetection's `{"instances": {"1": 0}}`: the class, from 0, of each value of a label map."""
    content = load_json(file)
    found = content.get("instances") if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise InputError(f"{file}: expected instances, an object such as {{'1': 0}}")
    for value, number in found.items():
        if not re.fullmatch(r"0*[1-9]\d{0,4}", value, re.ASCII) or parse_integer(number) not in range(classes):
            raise InputError(
                f"{file}: instances: {value[:20]!r}: {str(number)[:20]}; expected a value and a class from 0 to "
                f"{classes - 1}"
            )
    return tuple((int(value), parse_integer(number) or 0) for value, number in found.items())


def _described_classes(file: Path, labels: object) -> Classes:
    """Return values by class from `labels`: {"0": "background", "1": "liver"}, or {"liver": 1, "whole": [1, 2]}."""
    if not isinstance(labels, dict) or not labels:
        raise InputError(f"{file}: labels: expected an object such as {{'background': 0, 'liver': 1}}")
    if all(str(key).isdigit() for key in labels):  # the form of the Decathlon and of nnU-Net 1
        labels = {str(name): int(key) for key, name in labels.items()}
    classes: Classes = {}
    for name, value in labels.items():
        values = value if isinstance(value, list) else [value]
        if not values or any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in values):
            raise InputError(f"{file}: labels: {name}: {value!r}; expected a value from 0, or a list of values")
        if name == "ignore":
            raise InputError(f"{file}: labels: ignore ({value}) marks voxels without annotation, which is not read")
        if values != [0]:
            classes[name] = tuple(values)
    if not classes:
        raise InputError(f"{file}: labels: expected a class beside the background")
    return classes


def _described_source(case: str, files: list[Path], channels: Sequence[str], problems: Problems) -> VolumeFiles | None:
    numbered = all(_CHANNEL.fullmatch(nifti_stem(path)) for path in files)
    if not numbered and len(files) == 1:
        return VolumeFiles((files[0],), tuple(range(len(channels)))) if len(channels) > 1 else single_file(files[0])
    files = sorted(files)
    numbers = [int(match[2]) for path in files if (match := _CHANNEL.fullmatch(nifti_stem(path)))]
    rgb = len(files) == 1 and len(channels) == 3 and not files[0].name.lower().endswith(SUFFIXES)
    if numbers != list(range(len(channels))) and not rgb:
        problems.add_skippable(
            f"{case}: has the files {', '.join(path.name for path in files)}; expected one for each of "
            f"{len(channels)} channels, {case}_0000 and so on"
        )
        return None
    return VolumeFiles(tuple(files))


def single_file(file: Path) -> VolumeFiles:
    """Return a file of one channel, which may have a fourth axis."""
    count = count_channels(file) if file.name.lower().endswith(SUFFIXES) else None
    return VolumeFiles((file,), tuple(range(count))) if count and count > 1 else VolumeFiles((file,))


def _files(folder: Path) -> list[Path]:
    return sorted(files_below(folder, "*")) if folder.is_dir() else []


def find_by_pattern(root: Path, options: VolumesOptions, problems: Problems) -> FoundCases:
    """Find cases by the patterns of `images` and `labels`, in which `{case}` stands for the name of the case."""
    if not options.images or not options.labels:
        raise InputError(
            "volumes.images, volumes.labels: expected both, such as {case}/ct.nii.gz and {case}/seg.nii.gz"
        )
    images = {name: _pattern(text, "images") for name, text in options.images.items()}
    labels = _pattern(options.labels, "labels")
    of_case: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(files_below(root, "**/*.nii*")):
        where = path.relative_to(root).as_posix()
        for name, pattern in (*images.items(), ("", labels)):
            if match := pattern.fullmatch(where):
                case = match["case"]
                if name in of_case[case]:
                    problems.add(f"{case}: {of_case[case][name].name} and {path.name} are both {name or 'labels'}")
                of_case[case][name] = path
    found = FoundCases([], tuple(images))
    for case, files in sorted(of_case.items()):
        for name in (*images, ""):
            if name not in files:
                text = options.images[name] if name else options.labels
                expected = text.replace("{case}", case)
                problems.add_skippable(f"{case}: has no {name or 'label map'}; expected {expected}")
        if len(files) == len(images) + 1:
            found.cases.append(Case(case, VolumeFiles(tuple(files[name] for name in images)), (files[""],)))
    return found


def _pattern(text: str, option: str) -> re.Pattern:
    if text.count("{case}") != 1:
        raise InputError(f"volumes.{option}: {text}: expected {{case}} once, for the name of the case")
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in text.split("{case}")]
    return re.compile(rf"(?:.*/)?{parts[0]}(?P<case>[^/]+?){parts[1]}", re.IGNORECASE)


def dicom_files(root: Path) -> Iterable[Path]:
    """Yield the DICOM files below a folder, by suffix or content."""
    for path in sorted(files_below(root, "**/*")):
        if path.suffix.lower() in (".dcm", ".dicom", ".ima") or (
            not path.name.lower().endswith((*SUFFIXES, *_PICTURES, ".json", ".csv", ".txt", ".xml"))
            and is_dicom_file(path)
        ):
            yield path


def has_dicom_labels(root: Path) -> bool:
    """Check for a DICOM segmentation or structure set, or label maps of frames beside DICOM, from names and headers."""
    files = list(dicom_files(root))
    if not files:
        return False
    if any(_stack_labels(path) for path in files):
        return True
    from mrcnn.data.io.dicom_file import non_image_kind, open_dicom, translate_errors

    for path in files:
        try:
            with translate_errors(path):
                if non_image_kind(open_dicom(path, ("SOPClassUID", "Modality"), pixels=False)) in DICOM_LABELS:
                    return True
        except InputError:
            continue
    return False


def find_dicom(root: Path, options: VolumesOptions, problems: Problems) -> FoundCases:
    """Find DICOM series and files of several frames that a segmentation or structure set references."""
    from mrcnn.data.io.dicom import count_frames, pseudonym
    from mrcnn.data.io.dicom_contours import referenced_uids
    from mrcnn.data.io.dicom_file import element_text, open_dicom, translate_errors
    from mrcnn.data.io.dicom_series import group_series
    from mrcnn.data.io.volume_files import has_frame_positions

    grouped = group_series(dicom_files(root))
    sources: dict[str, tuple[str, VolumeFiles, bool]] = {}
    counts = Counter(series.uid for series in grouped.series)
    several = [str(series.files[0].relative_to(root)) for series in grouped.series if counts[series.uid] > 1]
    for series in (each for each in grouped.series if counts[each.uid] == 1):
        sources[series.uid] = (
            series.files[0].parent.relative_to(root).as_posix(),
            VolumeFiles(series.files, (), True),
            False,
        )
    patients: dict[str, str | None] = {}
    labels: dict[str, list[Path]] = defaultdict(list)
    for path in grouped.alone:
        if count_frames(path) < 2:
            continue
        with translate_errors(path):
            header = open_dicom(path, pixels=False)
            uid = element_text(header, "SOPInstanceUID")  # a series may hold several loops
            name = path.relative_to(root).with_suffix("").as_posix()
            sources[uid] = (name, VolumeFiles((path,), (), True), not has_frame_positions(header))
        if frames := _stack_labels(path):
            labels[uid] += frames
    for kind, path in grouped.others:
        if kind not in DICOM_LABELS:
            continue
        try:
            with translate_errors(path):
                known = referenced_uids(open_dicom(path)) & set(sources)
        except InputError as error:
            problems.add_skippable(str(error))
            continue
        if len(known) != 1:
            problems.add_skippable(
                f"{path.relative_to(root)}: references {len(known)} series of the data set; expected the images of one"
            )
            continue
        labels[known.pop()].append(path)
    found = FoundCases([], ("image",))
    for uid, files in labels.items():
        place, source, frames = sources[uid]
        with translate_errors(source.files[0]):
            patients[uid] = pseudonym(open_dicom(source.files[0], ("PatientID", "IssuerOfPatientID"), pixels=False))
        name = f"{root.name if place == '.' else place}"
        found.cases.append(Case(name, source, tuple(sorted(files)), frames=frames, patient=patients[uid]))
    found.cases = _unique(found.cases)
    found.warnings += name_warnings("stacks share a SeriesInstanceUID with another and are not read", several)
    without = [sources[uid][0] for uid in sources if uid not in labels]
    found.warnings += name_warnings("series have no segmentation or structure set and are not read", without)
    return found


def _stack_labels(path: Path) -> list[Path]:
    """Return the label map of the frames of a DICOM file: `a_mask.npy` or `a_seg.tif` beside `a.dcm`, at most one."""
    found = []
    for other in sorted(path.parent.iterdir()):
        match = LABEL_NAME.fullmatch(other.stem) if other.suffix.lower() in STACK_SUFFIXES else None
        found += [other] if match and (match["case"] or match["end"]) == path.stem else []
    return found[:1]


def _unique(cases: Sequence[Case]) -> list[Case]:
    """Add a digest of the files to the names of cases that share a folder."""
    counts = Counter(case.name for case in cases)
    digests = (hashlib.sha256(case.source.files[0].name.encode()).hexdigest()[:8] for case in cases)
    return [
        case if counts[case.name] == 1 else replace(case, name=f"{case.name}/{digest}")
        for case, digest in zip(cases, digests, strict=True)
    ]
