"""The entries of a COCO object: their ids, and the classes that its categories stand for."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mrcnn.data.names import normalize_text
from mrcnn.data.readers.json_file import is_plain_text, whole_number
from mrcnn.data.readers.problems import Problems


def identifier(value: Any) -> int | str | None:
    """Return an id in the one form that is compared: 7, 7.0 and "7" are the same, "07" is another; None for no id."""
    if isinstance(value, str) and re.match(r"\s*[+-]?0\d", value):
        return value.strip()
    number = whole_number(value)
    return value.strip() if number is None and isinstance(value, str) else number


def entries_by_id(
    name: str, entries: list, label: str, refuse: Callable[[str, Any], None], *, text_ids: bool = True
) -> Iterator[tuple[str, int | str, dict]]:
    """Yield for each entry with an id of its own what a message calls it, the id and itself; `refuse` gets the others.

    Args:
        label: what begins a message about an entry of this file.
        text_ids: whether an id may be text other than a number.
    """
    seen = set()
    for index, entry in enumerate(entries):
        key = identifier(entry.get("id")) if isinstance(entry, dict) else None
        if key is None or (isinstance(key, str) and not text_ids):
            allowed = "whole number or string" if text_ids else "whole number"
            refuse(f"{label}{name}[{index}]: expected an object with an id ({allowed})", entry)
        elif key in seen:
            refuse(f"{label}{name}[{index}]: id {key} stands twice", entry)
        else:
            seen.add(key)
            yield f"{label}{name} id {key}", key, entry


def read_categories(
    contents: Sequence[dict[str, list]], labels: Sequence[str], problems: Problems, warnings: list[str]
) -> tuple[list[str], list[dict[int | str, int]]]:
    """Read the categories of one or several COCO objects, which are the same class where they have the same name.

    Returns:
        Class names in order of the category ids, and for each object the class id (from 1) of each category id.
    """
    class_names: dict[str, str] = {}  # by the form in which names are compared
    names_of = []
    for content, label in zip(contents, labels, strict=True):
        names = _read_names(content["categories"], label, problems)
        parents = _unused_parents(contents, names)
        keys = {key: unicodedata.normalize("NFKC", name) for key, name in names.items() if key not in parents}
        for key in sorted(keys):
            class_names.setdefault(keys[key], names[key])
        for name, count in Counter(keys.values()).items():
            if count > 1:
                warnings.append(f"{label}{count} categories are called {class_names[name]!r}; they count as one class")
        names_of.append(keys)
    positions = {name: number for number, name in enumerate(class_names, start=1)}
    return list(class_names.values()), [{key: positions[name] for key, name in keys.items()} for keys in names_of]


def _read_names(entries: list, label: str, problems: Problems) -> dict[int, str]:
    """The name of each category id."""
    names: dict[int, str] = {}
    # Without a class it cannot be told what any annotation of it shows.
    found = entries_by_id("categories", entries, label, lambda problem, _: problems.add(problem), text_ids=False)
    for where, key, entry in found:
        name = entry.get("name")
        text = normalize_text(name) if is_plain_text(name) else None
        if text is None:
            problems.add(f"{where}: name {name!r}; expected a text")
        else:
            names[key] = text
    if not entries:
        problems.add(f"{label}categories: empty; expected at least one")
    return names


def _unused_parents(contents: Sequence[dict[str, list]], names: dict[int, str]) -> set[int]:
    """The id 0 that Roboflow gives to its project, which is the supercategory of the classes and marks nothing."""
    if 0 not in names or len(names) == 1:
        return set()
    for content in contents:
        for entry in content["categories"]:
            if isinstance(entry, dict) and identifier(entry.get("id")) == 0:
                if entry.get("supercategory") not in (None, "", "none"):
                    return set()
        for entry in content["annotations"]:
            if isinstance(entry, dict) and identifier(entry.get("category_id")) == 0:
                return set()
    entries = [entry for content in contents for entry in content["categories"] if isinstance(entry, dict)]
    above = [entry.get("supercategory") for entry in entries if identifier(entry.get("id")) != 0]
    return {0} if any(isinstance(name, str) and normalize_text(name) == names[0] for name in above) else set()
