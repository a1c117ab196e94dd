"""Describe the machine, the libraries and the git commit of a run."""

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
    """Return `python`, `system`, `processor`, `cores`, `memory_gib`, names of `gpus`, and versions of `libraries`."""
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
    """Return the names of NVIDIA GPUs; none if its tool or driver is missing."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


COMMIT = "mlflow.source.git.commit"
"""Tag that MLflow's pages link and that `mlflow run` sets."""


def _git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git, or None if git is missing or fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def git_tags(file: Path) -> dict[str, str]:
    """Return the commit of the checkout with `file`, and `git_dirty`: whether a tracked file differs from it.

    Empty for installed code, also if its environment is inside a checkout.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return {}
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {COMMIT: commit, "git_dirty": "true" if changes else "false"}
