"""Folder of cached files."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$MRCNN_CACHE`, or `~/.cache/medmrcnn`."""
    chosen = os.environ.get("MRCNN_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "medmrcnn"
