"""The command `mrcnn sync`, also `python -m experiments.commands.sync`."""

from __future__ import annotations

import sys

import click

from experiments.commands.command import Command, quiet_libraries
from experiments.config.command_line import switch
from mrcnn.errors import counted

RECORDS_LEFT = 1


def synchronize(dry_run: bool) -> int:
    """Upload the pending records of every run, and print a line for each; return the exit status."""
    quiet_libraries()
    # Imported here, so that invalid arguments are reported before MLflow is loaded.
    from trackers.offline.pending_records import pending_runs, upload_pending

    left = 0
    results = [result for run_id in pending_runs() if (result := upload_pending(run_id, dry_run=dry_run)) is not None]
    for result in results:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items()))
        state = "waiting" if dry_run else f"{result.delivered} of {counted(result.kinds.total(), 'record')} delivered"
        print(f"run {result.run_id}{result.store and f' on {result.store}'}: {state}{kinds and f' ({kinds})'}")
        if result.problem is not None:
            print(f"  {result.problem}")
        left += result.problem is not None or (dry_run and result.left > 0)
    if not results:
        print("Nothing waits to be delivered")
    return RECORDS_LEFT if left else 0


@click.command("sync", cls=Command, work=synchronize, stopped="stopped; `mrcnn sync` goes on from here")
@switch("--dry-run", help="only report the pending records")
def command(dry_run: bool) -> bool:
    """Upload the records that trainings could not deliver while their tracking server was away.

    The records are in $MRCNN_CACHE/unsent, in a folder for each run. They go to the server of the run, in order;
    records that the server already has are not logged twice. The user and password come from MLFLOW_TRACKING_URI, or
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN. No model is packaged or registered.

    Exit status: 0 if no records are left, otherwise 1.
    """
    return dry_run


main = command.run

if __name__ == "__main__":
    sys.exit(main())
