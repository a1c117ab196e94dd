"""Find the image files of a data set by the names in its annotations, and read annotations strictly."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from mrcnn.data.annotation_formats import IMAGE_SUFFIXES
from mrcnn.data.io.images import read_header
from mrcnn.data.names import valid_unicode
from mrcnn.data.problems import Problems
from mrcnn.errors import InputError, counted

_UPLOAD_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""Prefix that Label Studio adds to the name of an uploaded file."""


def compose_unicode(name: str) -> str:
    """Normalize a file name to Unicode NFC; macOS and archives may decompose ä into a and a combining mark."""
    return unicodedata.normalize("NFC", name)


class ImageFiles:
    """Find the files that annotations name, only within the folders of the data set.

    A name is searched relative to each of `folders` and its `images/`. Annotation tools may record their own folders
    and prefixes, as in `/data/upload/3/1f0c9a2e-a.png`; so the search continues with the last parts of the path, then
    with the only file of that name anywhere below the folders, then with this name without the prefix of an upload.
    If no file has exactly that name, the Unicode form is ignored, and then the letter case.

    Attributes:
        moved: (file name, path) of files that were found at another path than stated.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [os.path.normpath(folder) for folder in folders]
        self._by_name: dict[str, dict[str, None]] | None = None
        self.moved: list[tuple[str, Path]] = []

    def find(self, file_name: Any) -> Path:
        """Find the path of `file_name`. Raises `ValueError` if it is invalid, missing or ambiguous."""
        if not is_valid_text(file_name):
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
        for name in dict.fromkeys(
            (last, _UPLOAD_HASH.sub("", last), unquote(last), unquote(_UPLOAD_HASH.sub("", last)))
        ):
            for alike in (str, compose_unicode, _folded):
                found = [path for path in self._below().get(_folded(name), ()) if os.path.isfile(path)]
                found = [path for path in found if alike(os.path.basename(path)) == alike(name)]
                found = _nearest(found, parts[:-1])
                if len(found) == 1:
                    return self._note(file_name, found[0], not self._lies_at(found[0], parts))
                if found:
                    raise ValueError(f"{file_name!r} could be {' or '.join(found[:2])}; expected one file of that name")
        raise ValueError(f"{file_name!r} is neither in {self._folders[0]} nor in a folder below it")

    def find_by_stem(self, stem: Any) -> Path:
        """Find the image of a name that may lack its suffix. Raises `ValueError` if it is missing or ambiguous."""
        if not is_valid_text(stem):
            raise ValueError(f"file name {stem!r}; expected a path")
        noted = len(self.moved)
        for suffix in ("", *IMAGE_SUFFIXES):
            try:
                found = self.find(stem + suffix)
                del self.moved[noted:]  # such a name states no folder
                return found
            except ValueError as error:
                if "could be" in str(error):
                    raise
        raise ValueError(f"no image of the name {stem!r} in {self._folders[0]} or a folder below it")

    def _lies_at(self, path: str, parts: Sequence[str]) -> bool:
        """Check that a file has the stated path, ignoring the Unicode form."""
        places = (os.path.join(folder, below, *parts) for folder in self._folders for below in ("", "images"))
        return compose_unicode(path) in map(compose_unicode, places)

    def _note(self, file_name: str, path: str, moved: bool) -> Path:
        found = Path(path)
        if moved:
            self.moved.append((file_name, found))
        return found

    def _below(self) -> dict[str, dict[str, None]]:
        """Return every file below the folders by case-folded name."""
        if self._by_name is None:
            self._by_name = {}
            for top in dict.fromkeys(self._folders):
                for folder, names in walk_folders(top):
                    for name in names:
                        self._by_name.setdefault(_folded(name), {})[os.path.join(folder, name)] = None
        return self._by_name

    def warnings(self) -> list[str]:
        """Return a warning about files that were found at another path than stated, if any."""
        if not self.moved:
            return []
        name, path = self.moved[0]
        return [
            f"{counted(len(self.moved), 'image does', 'images do')} not lie where the annotations say and "
            f"{'was' if len(self.moved) == 1 else 'were'} found by name, such as {path.name} for {name}"
        ]


def _folded(name: str) -> str:
    return compose_unicode(compose_unicode(name).casefold())


def _nearest(paths: list[str], folders: Sequence[str]) -> list[str]:
    """Select the files whose innermost parent folders agree best with the stated ones."""
    for count in range(len(folders), 0, -1):
        stated = [_folded(name) for name in folders[-count:]]
        if agreeing := [path for path in paths if _folded(path).split(os.sep)[:-1][-count:] == stated]:
            return agreeing
    return paths


def read_record_fields(file_name: str, path: Path, where: str, problems: Problems) -> dict[str, Any] | None:
    """Read the fields of a `Record` that the image file provides; None, with a problem, if it cannot be read.

    `patient_id` is None unless the file names a patient.
    """
    try:
        header = read_header(path)
    except InputError as error:
        problems.add_skippable(f"{where}: {error}")
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


_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}


def is_system_name(name: str) -> bool:
    """Check for names of hidden and system files, such as AppleDouble (`._a.png`) and thumbnails."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def walk_folders(root: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder from `root` on with the names of its files, except hidden and system files and folders."""
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not is_system_name(name))
        yield folder, [name for name in names if not is_system_name(name)]


def images_in(folder: Path) -> list[Path]:
    """Return the images that lie in a folder itself, in the order of their names, except hidden and system files.

    Raises:
        InputError: it is no folder, or has no image.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not is_system_name(file.name)]
    if not found:
        raise InputError(f"{folder}: no images; expected a folder with files that end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def images_below(folder: Path) -> list[Path]:
    """Return the images in a folder and below it, sorted, except in hidden and system folders."""
    return [file for file in sorted(files_below(folder, "**/*")) if file.suffix.lower() in IMAGE_SUFFIXES]


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files below a folder that match a glob pattern, except in hidden and system folders."""
    for path in folder.glob(pattern):
        if not any(map(is_system_name, path.relative_to(folder).parts)) and path.is_file():
            yield path


def find_annotation_files(path: Path, patterns: Sequence[str], is_annotation: Callable[[Path], bool]) -> list[Path]:
    """Find the annotation file at `path`, or those below a folder that match the first glob pattern with any."""
    if path.is_file():
        return [path] if is_annotation(path) else []
    for pattern in patterns:
        if found := [file for file in sorted(files_below(path, pattern)) if is_annotation(file)]:
            return found
    return []


def read_bytes(file: Path) -> bytes:
    """Read a file. Raises `InputError` if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def read_text(file: Path) -> str:
    """Read a text file as UTF-8, or as UTF-16 if it begins with that mark.

    Raises:
        InputError: the file cannot be read, or has another encoding.
    """
    content = read_bytes(file)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def load_json(file: Path) -> Any:
    """Parse a JSON file. Raises `InputError` if it cannot be read, is empty or is not valid JSON."""
    content = read_bytes(file)
    if not content.strip():
        raise InputError(f"{file}: is empty ({len(content)} bytes); expected annotations as JSON")
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{file}: not a JSON file ({error})") from error
    except RecursionError as error:
        raise InputError(f"{file}: not a JSON file of annotations (nested too deep)") from error


def read_xml(file: Path) -> ElementTree.Element:
    """Parse an XML file. Raises `InputError` if it is not XML, or defines entities, which may expand without bound."""
    content = read_bytes(file)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InputError(f"{file}: holds a document type; expected annotations alone")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{file}: not an XML file ({error})") from error


def xml_begins_with(file: Path, pattern: bytes) -> bool:
    """Check whether the first 4096 bytes of an XML file match a regular expression; false for other suffixes."""
    if file.suffix.lower() != ".xml":
        return False
    with file.open("rb") as opened:
        return re.search(pattern, opened.read(4096), re.DOTALL) is not None


def is_valid_text(value: Any) -> bool:
    """Check for nonempty text without null characters and lone surrogates, which JSON may contain."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and valid_unicode(value) == value


def parse_integer(value: Any) -> int | None:
    """Parse a JSON integer, also written as 128.0 or "128"; None for other values."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([+-]?\d{1,300})(?:\.0*)?\s*", value)
        return int(found[1]) if found else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None


def parse_number(value: Any) -> float | int | None:
    """Parse a finite JSON number, also written as text; None for other values."""
    if isinstance(value, str):
        if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII):
            return None
        value = float(value)
    if type(value) is int:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def parse_flag(value: Any) -> bool:
    """Parse a JSON flag, written as true, 1 or text of these; a missing flag is False.

    Raises:
        ValueError: the value is not a flag.
    """
    if value is None or value == "":
        return False
    word = str(value).strip().lower()
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if isinstance(value, bool | int | float | str) and word in known:
        return known[word]
    raise ValueError(f"{value!r}; expected 0 or 1")
