"""Marks in the bytes of a file that are read before any decoder: whether it is DICOM, and the scans of a JPEG."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from mrcnn.errors import InputError

HEAD_BYTES = 512
"""So many bytes from the start of a file tell whether it is DICOM."""
MOST_SCANS = 100
"""Scans of a JPEG. Encoders write about ten; a decoder goes over the whole image once for each."""

_FIRST_GROUPS = (0x0002, 0x0008)  # file meta information, or a data set without it
_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)  # PS3.5, 6.2
_LONG_LENGTHS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5, 7.1.2: after two reserved bytes
_UNDEFINED = 0xFFFFFFFF
_START, _SCAN, _END = b"\xff\xd8", 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # not a stuffed byte, not a restart


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` (`HEAD_BYTES`, or all of a shorter file) is DICOM.

    Most files have `DICM` after a preamble of 128 bytes (PS3.10, 7.1). Others begin at once with the file meta
    information, group 0002, or with the data set, group 0008, of any of the three ways to write elements (PS3.5, 7.1).
    Of these the first two elements must be well formed and in order, as other kinds of file may begin with the same
    two bytes.
    """
    if head[128:132] == b"DICM":
        return True
    return any(_begins_with_elements(head, order, explicit) for order, explicit in (("<", 1), ("<", 0), (">", 1)))


def _begins_with_elements(head: bytes, order: str, explicit: int) -> bool:
    position, before = 0, (0, -1)
    for _ in range(2):
        if position + 12 > len(head):
            return position > 0  # the first element reaches beyond the head
        tag = struct.unpack_from(f"{order}HH", head, position)
        if tag <= before or tag[0] > 0x0020 or (not position and tag[0] not in _FIRST_GROUPS):
            return False
        representation = head[position + 4 : position + 6]
        if not explicit:
            (length,) = struct.unpack_from(f"{order}I", head, position + 4)
            position += 8
        elif representation not in _VALUE_REPRESENTATIONS:
            return False
        elif representation in _LONG_LENGTHS:
            (length,) = struct.unpack_from(f"{order}I", head, position + 8)
            position += 12
        else:
            (length,) = struct.unpack_from(f"{order}H", head, position + 6)
            position += 8
        if length == _UNDEFINED:
            return explicit == 1
        if length % 2 or length > 1 << 16:  # the first elements of group 0008 are codes, UIDs and dates
            return False
        position, before = position + length, tag
    return True


def check_scans(data: bytes) -> None:
    """Raises `InputError` for a JPEG of more than `MOST_SCANS` scans, without decoding any."""
    # No scan begins without these two bytes, so most files are counted at once.
    if data.count(bytes([0xFF, _SCAN])) <= MOST_SCANS:
        return
    scans, position = 0, len(_START)
    while (found := _MARKER.search(data, position)) is not None:
        kind, position = found[1][0], found.end()
        if kind == _END:
            return
        if kind in (0x01, _START[1]):  # markers without a segment
            continue
        scans += kind == _SCAN
        if scans > MOST_SCANS:
            raise InputError(f"JPEG with more than {MOST_SCANS} scans; expected at most that many")
        position += int.from_bytes(data[position : position + 2])


_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}


def is_system_name(name: str) -> bool:
    """Return whether a file or folder of this name is no data: hidden, AppleDouble (`._a.png`), thumbnails, …"""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files that match a glob pattern below a folder; what lies in a hidden or system folder is none."""
    for path in folder.glob(pattern):
        if not any(map(is_system_name, path.relative_to(folder).parts)) and path.is_file():
            yield path
