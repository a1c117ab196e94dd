"""The machine and the libraries that a run had."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from mrcnn.processor import cpu_info

LIBRARIES = ("medmrcnn", "keras", "tensorflow", "jax", "numpy", "mlflow", "pycocotools", "imaug")


def environment_facts() -> dict[str, Any]:
    """`python`, `system`, `processor`, `cores` and `memory_gib` of this process, `gpus` by name, `libraries`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": cpu_info()[0],
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


COMMIT = "mlflow.source.git.commit"
"""The tag that MLflow's pages link, and that `mlflow run` sets itself."""


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where git is missing or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_tags(file: Path) -> dict[str, str]:
    """Commit of the checkout that `file` is tracked in, and `git_dirty`: whether a tracked file differs from it.

    Empty for installed code, also when the environment that it is installed in lies inside some checkout.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return {}
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {COMMIT: commit, "git_dirty": "true" if changes else "false"}
