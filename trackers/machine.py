"""The machine and the libraries that a run had."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from mrcnn.processor import processor

LIBRARIES = ("medmrcnn", "keras", "tensorflow", "jax", "numpy", "mlflow", "pycocotools", "imaug")


def machine() -> dict[str, Any]:
    """`python`, `system`, `processor`, `cores` and `memory_gib` of this process, `gpus` by name, `libraries`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor()[0],
        "cores": allowed,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
    }


def _gpus() -> list[str]:
    """Names of NVIDIA's; none where its tool is missing or finds no driver."""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
