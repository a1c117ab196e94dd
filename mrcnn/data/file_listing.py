"""Files of a folder without those that an operating system or an archive puts there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}


def is_system_name(name: str) -> bool:
    """Return whether a file or folder of this name is no data: hidden, AppleDouble (`._a.png`), thumbnails, …"""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM


def files_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files that match a glob pattern below a folder; what lies in a hidden or system folder is none."""
    for path in folder.glob(pattern):
        if not any(map(is_system_name, path.relative_to(folder).parts)) and path.is_file():
            yield path
