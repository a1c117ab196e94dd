"""The image files of a data set: where an annotation's file name leads, and what each file says of itself."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mrcnn.data.io.file_types import files_below, is_system_name
from mrcnn.data.io.images import read_header
from mrcnn.data.readers.names import valid_unicode
from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")
_UPLOAD_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


def composed(name: str) -> str:
    """A file name in Unicode's composed form (NFC): macOS and archives may write ä as a and a mark."""
    return unicodedata.normalize("NFC", name)


class ImageFiles:
    """Finds the files that annotations name, within the folders of the data set and never outside.

    A name is tried as it stands, below each of `folders` and its `images/`. An annotation tool may have recorded its
    own folders and marks, as in `/data/upload/3/1f0c9a2e-a.png` or `images/a.png`; so next the last parts of the path
    are tried, then the only file of that name anywhere below the folders, then the same without the mark of an upload.
    Where no file has just that name, Unicode's composed and decomposed forms count as one, and then letter case does.

    Attributes:
        moved: (file name, path) of those that did not lie where their name says.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [os.path.normpath(folder) for folder in folders]
        self._by_name: dict[str, dict[str, None]] | None = None
        self.moved: list[tuple[str, Path]] = []

    def find(self, file_name: Any) -> Path:
        """The file that `file_name` means. Raises `ValueError`, which says what is wrong with it."""
        if not is_plain_text(file_name):
            raise ValueError(f"file name {file_name!r}; expected a path")
        stated = unquote(file_name.rpartition("?d=")[2]) if "?d=" in file_name else file_name
        parts = [part for part in os.path.normpath(stated.replace("\\", "/")).split("/") if part not in ("", "..")]
        for start in range(len(parts)):
            for folder in self._folders:
                for below in (folder, os.path.join(folder, "images")):
                    path = os.path.join(below, *parts[start:])
                    if os.path.isfile(path):
                        return self._note(file_name, path, start > 0 or len(parts) < len(stated.split("/")))
        last = parts[-1] if parts else ""
        for name in dict.fromkeys((last, _UPLOAD_HASH.sub("", last))):
            for alike in (str, composed, _folded):
                found = [path for path in self._below().get(_folded(name), ()) if os.path.isfile(path)]
                found = [path for path in found if alike(os.path.basename(path)) == alike(name)]
                found = _nearest(found, parts[:-1])
                if len(found) == 1:
                    return self._note(file_name, found[0], not self._lies_at(found[0], parts))
                if found:
                    raise ValueError(f"{file_name!r} could be {' or '.join(found[:2])}; expected one file of that name")
        raise ValueError(f"{file_name!r} is neither in {self._folders[0]} nor in a folder below it")

    def _lies_at(self, path: str, parts: Sequence[str]) -> bool:
        """Whether a file lies where its name says, whatever the form of its Unicode."""
        places = (os.path.join(folder, below, *parts) for folder in self._folders for below in ("", "images"))
        return composed(path) in map(composed, places)

    def _note(self, file_name: str, path: str, moved: bool) -> Path:
        found = Path(path)
        if moved:
            self.moved.append((file_name, found))
        return found

    def _below(self) -> dict[str, dict[str, None]]:
        """Every file below the folders, by its name in one letter case."""
        if self._by_name is None:
            self._by_name = {}
            for top in dict.fromkeys(self._folders):
                for folder, below, names in os.walk(top):
                    below[:] = [name for name in below if not is_system_name(name)]
                    for name in names:
                        if not is_system_name(name):
                            self._by_name.setdefault(_folded(name), {})[os.path.join(folder, name)] = None
        return self._by_name

    def warnings(self) -> list[str]:
        """A line on the files that lie elsewhere than their names say, if there are any."""
        if not self.moved:
            return []
        name, path = self.moved[0]
        return [
            f"{len(self.moved)} images do not lie where the annotations say and were found by name, "
            f"such as {path.name} for {name}"
        ]


def _folded(name: str) -> str:
    return composed(composed(name).casefold())


def _nearest(paths: list[str], folders: Sequence[str]) -> list[str]:
    """Those of several files of one name whose folders agree best with the stated ones, from the innermost outwards."""
    for count in range(len(folders), 0, -1):
        stated = [_folded(name) for name in folders[-count:]]
        if agreeing := [path for path in paths if _folded(path).split(os.sep)[:-1][-count:] == stated]:
            return agreeing
    return paths


def read_row(file_name: str, path: Path, where: str, problems: Problems) -> dict[str, Any] | None:
    """What `Record` holds of an image but its instances, as far as the file itself can tell; None if it cannot be read.

    `patient_id` is None unless the file names a patient.
    """
    try:
        header = read_header(path)
    except InputError as error:
        problems.add_passable(f"{where}: {error}")
        return None
    return {
        "file_name": file_name,
        "path": path,
        "height": header.height,
        "width": header.width,
        "patient_id": header.patient_id,
        "spacing_mm": header.spacing_mm,
        "label": None,
        "orientation": header.orientation,
    }


def json_files(folder: Path, pattern: str) -> list[Path]:
    """The files that match, by name; what is no file of its own, such as a folder or a pipe, is passed over."""
    return sorted(files_below(folder, pattern))


def read_bytes(file: Path) -> bytes:
    """Raises `InputError` where the file cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def load_json(file: Path) -> Any:
    """What the file holds. Raises `InputError` where it cannot be read or is no JSON that could be annotations."""
    content = read_bytes(file)
    if not content.strip():
        raise InputError(f"{file}: is empty ({len(content)} bytes); expected annotations as JSON")
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{file}: not a JSON file ({error})") from error
    except RecursionError as error:
        raise InputError(f"{file}: not a JSON file of annotations (nested too deep)") from error


def is_plain_text(value: Any) -> bool:
    """Whether a value is text that is not blank and that every file can hold; JSON may bring halves of characters."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and valid_unicode(value) == value


def whole_number(value: Any) -> int | None:
    """Return the integer that a JSON value stands for, also as 128.0 or "128"; None where it stands for none."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([+-]?\d{1,300})(?:\.0*)?\s*", value)
        return int(found[1]) if found else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None


def real_number(value: Any) -> float | int | None:
    """Return the finite number that a JSON value stands for, also as text; None where it stands for none."""
    if isinstance(value, str):
        if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII):
            return None
        value = float(value)
    if type(value) is int:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def truth(value: Any) -> bool:
    """Return whether a JSON flag is set, as true, 1 or text of either; a missing one is not.

    Raises:
        ValueError: it is neither.
    """
    if value is None or value == "":
        return False
    word = str(value).strip().lower()
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if isinstance(value, bool | int | float | str) and word in known:
        return known[word]
    raise ValueError(f"{value!r}; expected 0 or 1")
