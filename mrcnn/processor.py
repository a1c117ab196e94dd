"""What the operating system tells of the processor."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def cpu_info() -> tuple[str, frozenset[str]]:
    """Its name, and its features in the names of Linux (`avx2`, `avx512_bf16`); none where they cannot be known."""
    listed = Path("/proc/cpuinfo")
    name, flags = read_cpuinfo(listed.read_text() if listed.exists() else "")
    return name or platform.processor() or platform.machine(), flags


def read_cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """As `processor`, of the first that `text`, a `/proc/cpuinfo`, lists; an empty name where it has none."""
    fields = dict(re.findall(r"^(model name|flags)\s*:\s*(.+)$", text.partition("\n\n")[0], re.MULTILINE))
    return fields.get("model name", "").strip(), frozenset(fields.get("flags", "").split())
