"""Apply DICOM lookup tables: modality, values of interest (VOI) and palette (PS3.3, C.11.1, C.11.2, C.7.6.3).

The functions of pydicom wrap indices in 8-bit tables of more than 256 entries, use the byte order of the machine, and
read 8-bit colors in 16-bit words as black.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pydicom

from mrcnn.data.io.dicom_file import element_numbers
from mrcnn.errors import InputError

COLORS = ("Red", "Green", "Blue")
_MOST_ENTRIES = 1 << 16


class _Descriptor(NamedTuple):
    entries: int
    first: int
    bits: int


def table_values(values: np.ndarray, item: pydicom.Dataset, little: bool) -> tuple[np.ndarray, int]:
    """Map values by an item of ModalityLUTSequence or VOILUTSequence; also return the bits of its entries."""
    descriptor = _descriptor(item, "LUTDescriptor")
    table = _words(item, "LUTData", descriptor, little)
    if descriptor.bits <= 8 and table.max() > 255:  # in the high bytes of 16-bit words
        table = table >> 8
    return _looked_up(values, descriptor.first, table), descriptor.bits


def palette_colors(values: np.ndarray, dataset: pydicom.Dataset, little: bool) -> np.ndarray:
    """Map stored values (H, W) of PALETTE COLOR to colors (H, W, 3) uint8.

    Entries have 8 or 16 bits. 8-bit entries may be bytes, or the low or high bytes of 16-bit words (PS3.3,
    C.7.6.3.1.5, notes); some writers declare the latter as 16-bit.
    """
    descriptor = _descriptor(dataset, "RedPaletteColorLookupTableDescriptor")
    planes = []
    for color in COLORS:
        name = f"{color}PaletteColorLookupTableData"
        if dataset.get_item(name) is not None:
            planes.append(_words(dataset, name, descriptor, little))
        else:
            planes.append(_expanded(dataset, f"Segmented{name}", descriptor, little))
    table = np.stack(planes, axis=-1)
    if table.max() > 255:
        table = table >> 8
    return _looked_up(values, descriptor.first, table).astype(np.uint8)


def _looked_up(values: np.ndarray, first: int, table: np.ndarray) -> np.ndarray:
    """Map values; those below `first` get the first entry, those beyond the table the last."""
    if first >= 1 << 15 and values.max() < first:  # a signed value, written or read as unsigned
        first -= 1 << 16
    return table[np.clip(np.asarray(values, np.float64) - first, 0, len(table) - 1).astype(np.intp)]


def _descriptor(item: pydicom.Dataset, keyword: str) -> _Descriptor:
    values = element_numbers(item, keyword)
    if len(values) != 3 or any(value != int(value) for value in values):
        raise InputError(f"{keyword} (DICOM): expected three whole numbers")
    entries, first, bits = map(int, values)
    if not 1 <= bits <= 16:
        raise InputError(f"{keyword} (DICOM): {bits} bits an entry; expected 8 to 16")
    return _Descriptor(entries % _MOST_ENTRIES or _MOST_ENTRIES, first, bits)


def _words(item: pydicom.Dataset, keyword: str, descriptor: _Descriptor, little: bool) -> np.ndarray:
    """Read the (entries,) integers of a table."""
    value = item.get(keyword)
    if not isinstance(value, bytes):
        words = np.array(element_numbers(item, keyword), np.int64)
        return _whole(words if len(words) >= descriptor.entries else _split(words), keyword, descriptor)
    as_words, as_bytes = _read(value, item[keyword].VR, little)
    return _whole(as_words if len(value) >= 2 * descriptor.entries else as_bytes, keyword, descriptor)


def _whole(words: np.ndarray, keyword: str, descriptor: _Descriptor) -> np.ndarray:
    if len(words) < descriptor.entries:
        raise InputError(f"{keyword} (DICOM): {len(words)} entries; expected {descriptor.entries}")
    return words[: descriptor.entries]


def _read(value: bytes, representation: str, little: bool) -> tuple[np.ndarray, np.ndarray]:
    """Decode a value as 16-bit words, and as bytes with the low byte of each word first."""
    words = np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2").astype(np.int64)
    if little or representation == "OB":
        return words, np.frombuffer(value, np.uint8).astype(np.int64)
    return words, _split(words)


def _split(words: np.ndarray) -> np.ndarray:
    return np.stack([words & 255, words >> 8], axis=-1).ravel()


def _expanded(dataset: pydicom.Dataset, keyword: str, descriptor: _Descriptor, little: bool) -> np.ndarray:
    """Expand a segmented table (PS3.3, C.7.9.2) to its (entries,) integers."""
    value = dataset.get(keyword)
    if value is None:
        raise InputError(f"PALETTE COLOR (DICOM) without {keyword.removeprefix('Segmented')}; expected its palette")
    if isinstance(value, bytes):
        as_words, as_bytes = _read(value, dataset[keyword].VR, little)
    else:
        as_words = np.array(element_numbers(dataset, keyword), np.int64)
        as_bytes = _split(as_words)
    forms = [(as_words, 2), (as_bytes, 1)]
    for numbers_, size in forms if descriptor.bits > 8 else forms[::-1]:
        table = _expand(numbers_.tolist(), size, little, descriptor.entries)
        if table is not None:
            return np.array(table, np.int64)
    raise InputError(f"{keyword} (DICOM): its segments do not make {descriptor.entries} entries; expected that many")


def _expand(data: list[int], size: int, little: bool, entries: int) -> list[int] | None:
    """Expand segments, in numbers of `size` bytes, to entries; None if they are invalid or give another number."""
    table: list[int] = []
    position, places = 0, []  # start of each segment in `data`
    try:
        while len(table) < entries:
            places.append(position)
            if data[position] == 2:
                count = data[position + 1]
                low_first = data[position + 2 : position + (4 if size == 2 else 6)]
                if size == 1:  # two 16-bit words, low word first
                    pairs = low_first[:2], low_first[2:]
                    low_first = [(a | b << 8) if little else (a << 8 | b) for a, b in pairs]
                start = (low_first[0] | low_first[1] << 16) // size
                position += 4 if size == 2 else 6
                first = places.index(start)
                for place in places[first : first + count]:
                    if data[place] == 2:
                        return None
                    _add_segment(table, data, place, entries)
            else:
                position = _add_segment(table, data, position, entries)
    except (IndexError, ValueError):
        return None
    return table if len(table) == entries and len(data) - position < 2 else None


def _add_segment(table: list[int], data: list[int], position: int, entries: int) -> int:
    """Append a discrete (0) or linear (1) segment to `table`; return the start of the next segment."""
    kind, length = data[position], data[position + 1]
    if kind > 1 or not length or len(table) + length > entries:
        raise ValueError
    if kind == 0:
        segment, end = data[position + 2 : position + 2 + length], position + 2 + length
        if len(segment) < length:
            raise IndexError
        table += segment
        return end
    last = table[-1]
    table += np.rint(last + (data[position + 2] - last) * np.arange(1, length + 1) / length).astype(int).tolist()
    return position + 3
