"""The machine and the libraries that a table was measured with."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import sys
from importlib import metadata

MATRIX_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
LIBRARIES = ("tensorflow", "keras", "jax", "numpy")


def describe_machine() -> list[str]:
    """Lines for the top of a table: date, processor, how busy it is, and what is installed."""
    # Not above: the worker of matterport's implementation, a package of the same name, takes `peak_memory` from here.
    from mrcnn.processor import cpu_info

    model, all_flags = cpu_info()
    flags = [flag for flag in MATRIX_FLAGS if flag in all_flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = [f"{name} {metadata.version(name)}" for name in LIBRARIES if _installed(name)]
    return [
        f"{datetime.date.today():%Y-%m-%d}, {platform.system()}, Python {platform.python_version()}",
        f"{model}, {cores} cores, {', '.join(flags) or 'matrix instructions not known'}, "
        f"load {os.getloadavg()[0]:.1f} at the start",
        ", ".join(libraries),
    ]


def peak_memory() -> int:
    """The most bytes that this process ever held."""
    # The unit is a KiB on Linux and a byte on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
