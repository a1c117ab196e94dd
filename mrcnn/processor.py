"""Read the name and the features of the CPU."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def cpu_info() -> tuple[str, frozenset[str]]:
    """Return the name of the CPU and its features by Linux's names (`avx2`, …), none on other systems."""
    listed = Path("/proc/cpuinfo")
    name, flags = read_cpuinfo(listed.read_text() if listed.exists() else "")
    return name or platform.processor() or platform.machine(), flags


def read_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Return the name, possibly empty, and the features of the first CPU in `text`, a `/proc/cpuinfo`."""
    fields = dict(re.findall(r"^(model name|flags)\s*:\s*(.+)$", text.partition("\n\n")[0], re.MULTILINE))
    return fields.get("model name", "").strip(), frozenset(fields.get("flags", "").split())
