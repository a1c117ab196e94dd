"""The command `mrcnn sync`: what trainings logged while the tracking server was away goes to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.commands.exit_status import exit_status, quiet_libraries
from mrcnn.errors import InputError

HELP_TEXT = """\
usage: mrcnn sync [--dry-run]

Deliver what trainings logged while their tracking server was away, and could not deliver before they ended. It is
kept in $MRCNN_CACHE/unsent, a folder for each run, and delivered in order to the server that the run is on; what the
server has already is not logged twice. The user and password come from MLFLOW_TRACKING_URI, or
MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN. It packages and registers no model.

  --dry-run   only tell what would be delivered

Exit status: 0 nothing is left, 1 something is.
"""
DRY_RUN = ("--dry-run", "--dry_run")
SOMETHING_LEFT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(word in ("--help", "-h") for word in arguments):
        print(HELP_TEXT, end="")
        return 0
    return exit_status(
        lambda: synchronize(dry_run=_dry_run(arguments)), stopped="stopped; `mrcnn sync` goes on from here"
    )


def _dry_run(arguments: Sequence[str]) -> bool:
    match list(arguments):
        case []:
            return False
        case [word] if word in DRY_RUN:
            return True
        # `mlflow run -e sync -P dry_run=true`
        case [word, "true" | "false" as value] if word in DRY_RUN:
            return value == "true"
    raise InputError(f"sync {' '.join(arguments)}: expected nothing or --dry-run")


def synchronize(*, dry_run: bool) -> int:
    """Deliver what is kept of every run, and tell of each; returns the exit status."""
    quiet_libraries()
    # Imported here, so that a typing error is told before MLflow has loaded.
    from trackers.offline.pending_records import pending_runs, upload_pending

    left = 0
    found = [unsent for run_id in pending_runs() if (unsent := upload_pending(run_id, dry_run=dry_run)) is not None]
    for unsent in found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(unsent.kinds.items()))
        told = f"{unsent.delivered} of {unsent.kinds.total()} records delivered" if not dry_run else "waiting"
        print(f"run {unsent.run_id}{unsent.store and f' on {unsent.store}'}: {told}{kinds and f' ({kinds})'}")
        if unsent.problem is not None:
            print(f"  {unsent.problem}")
        left += unsent.problem is not None or (dry_run and unsent.left > 0)
    if not found:
        print("Nothing waits to be delivered")
    return SOMETHING_LEFT if left else 0


if __name__ == "__main__":
    sys.exit(main())
