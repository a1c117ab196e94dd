"""Which commit the running code is."""

from __future__ import annotations

import subprocess
from pathlib import Path

COMMIT = "mlflow.source.git.commit"
"""The tag that MLflow's pages link, and that `mlflow run` sets itself."""


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where git is missing or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def checkout_tags(file: Path) -> dict[str, str]:
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
