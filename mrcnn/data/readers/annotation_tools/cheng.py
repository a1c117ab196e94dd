"""Read the brain tumor set of Cheng et al. as published on figshare: a MATLAB 7.3 file `12.mat` for each slice.

Its struct `cjdata` has `image`, `tumorMask`, `label` (1 meningioma, 2 glioma, 3 pituitary tumor) and `PID`, the
patient, which the PNG versions of the set lack. The images become 16-bit PNG files in the cache folder.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import h5py
import numpy as np

from mrcnn.cache_folder import cache_folder
from mrcnn.data.digest import cached_file_digest, required_cache, write_whole
from mrcnn.data.io.pictures import check_size
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Encoded, Shape, relative_name
from mrcnn.data.readers.image_files import files_below
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop, encode_crop

_CLASSES = ("meningioma", "glioma", "pituitary tumor")
_FIELDS = ("image", "tumorMask", "label", "PID")
_LOOKED_AT = 5  # files that are opened to recognize the form
_LONGEST = 64  # characters of a patient
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)  # what h5py raises


def matches(path: Path) -> bool:
    """Check for MATLAB 7.3 files with `cjdata` at `path`, or in it or its direct subfolders."""
    return any(_is_slice(file) for file in islice(_find_files(path), _LOOKED_AT))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Read the slices of a folder; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    images, passed = [], []
    for file in _find_files(path):
        if not _is_slice(file):
            passed.append(relative_name(file, root))
            continue
        try:
            images.append(_read_slice(file, relative_name(file, root)))
        except InputError:  # of the cache folder, the same for every image
            raise
        except _UNREADABLE as error:
            problems.add_skippable(f"{relative_name(file, root)}: {error}; expected {', '.join(_FIELDS)} in cjdata")
    warnings += name_warnings("MATLAB files have no cjdata and are passed over", passed)
    return images, _CLASSES


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".mat" else []
    return sorted({*files_below(path, "*.mat"), *files_below(path, "*/*.mat")})


def _is_slice(file: Path) -> bool:
    try:
        with h5py.File(file, "r") as content:
            return "cjdata" in content
    except _UNREADABLE:
        return False


def _read_slice(file: Path, where: str) -> AnnotatedImage:
    """Read a slice. Raises one of `_UNREADABLE`."""
    picture = cache_folder() / "cheng" / f"{cached_file_digest(file)}.png"
    with h5py.File(file, "r") as content:
        fields: dict[str, np.ndarray] = {}
        for name in _FIELDS:
            field = content[f"cjdata/{name}"]
            if not isinstance(field, h5py.Dataset) or field.dtype.kind not in "biuf" or len(field.shape) != 2:
                raise ValueError(f"its {name} is no matrix of numbers")
            check_size(field.shape[0], field.shape[1], 1)
            fields[name] = np.asarray(field[()]).T  # MATLAB stores columns first
        pixels, mask, number, patient = fields.values()
        if pixels.shape != mask.shape:
            raise ValueError(f"its tumorMask is {mask.shape}, its image {pixels.shape}")
        if not picture.is_file():
            if not np.isfinite(pixels).all() or np.ptp(pixels) > 65535:
                raise ValueError("its image holds values that 16 bits cannot")
            encoded = cv2.imencode(".png", (pixels - min(0, pixels.min())).astype(np.uint16))[1]
            with required_cache(picture.parent), write_whole(picture) as draft:
                draft.write_bytes(encoded.tobytes())
    if not set(np.unique(mask)) <= {0, 1}:
        raise ValueError("its tumorMask holds other values than 0 and 1")
    if number.size != 1 or number.item() not in (1, 2, 3):
        raise ValueError(f"its label is {number.ravel()[:3].tolist()}, none of 1, 2 and 3")
    if patient.size > _LONGEST:
        raise ValueError(f"its PID has {patient.size} characters")
    name = "".join(map(chr, patient.ravel().astype(int)))
    kind = _CLASSES[int(number.item()) - 1]
    height, width = mask.shape
    run = encode_crop(Crop(0, 0, mask > 0), height, width)
    shapes = [Shape(f"{where}, tumorMask", kind, partial(_encode, run))]
    return AnnotatedImage(where, picture, None, shapes, (height, width), name, name=where, label=kind)


def _encode(run: bytes, height: int, width: int) -> Encoded:
    return run, ()
