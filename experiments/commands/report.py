"""The command `mrcnn report`, also `python -m experiments.commands.report`: a report again, or as a PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from experiments.commands.command import Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, option
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from trackers.runs.local_store import require_writable_store

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 300
"""Maximum time of a browser for a page, on a busy machine, too."""


@dataclass(frozen=True)
class ReportArgs:
    """Validated arguments; `form` is html or pdf."""

    run: str
    form: str
    output: Path


def _report(arguments: ReportArgs) -> None:
    browser = find_browser() if arguments.form == "pdf" else None
    quiet_libraries()
    with silent_start():
        from mlflow.exceptions import MlflowException

        from experiments.evaluation.report import FILE, report
        from trackers.checkpoints.initial_weights import ANY_TASK, run_of
        from trackers.runs.reader import artifacts, read_run

    run_id = str(run_of(arguments.run, task=ANY_TASK, option="run"))
    try:
        with artifacts(run_id, FILE) as folder:
            if not (folder / FILE).is_file():
                raise InputError(f"run={arguments.run}: has no {FILE}; expected a finished training or an evaluation")
            page = report(read_run(run_id))
            if browser is None:
                arguments.output.write_text(page, encoding="utf-8")
            else:
                (folder / FILE).write_text(page, encoding="utf-8")
                print_pdf(browser, folder / FILE, arguments.output)
    except MlflowException as error:
        raise InputError(f"run={arguments.run}: there is no such run in the store") from error
    print(f"Report:  {arguments.output}")


def find_browser() -> str:
    """Return the path of Chromium or Google Chrome; raise `InputError` where neither is on PATH."""
    if browser := next(filter(None, map(shutil.which, BROWSERS)), None):
        return browser
    raise InputError(
        "--format pdf: no Chromium or Google Chrome on PATH; install one (Debian: apt install chromium), or open the "
        "HTML report in a browser and print it"
    )


def print_pdf(browser: str, page: Path, output: Path) -> None:
    """Print a page of HTML with Chromium or Chrome, by its style sheet for print.

    Raises:
        InputError: the browser wrote no file.
    """
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as profile:
        # Chromium refuses its sandbox to root, as in a container. The page is our own and names no other host.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            *root,
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
        ]
        printed = Path(profile, "printed.pdf")
        try:
            done = subprocess.run(
                [*command, f"--print-to-pdf={printed}", page.as_uri()], capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"--format pdf: {browser} did not finish within {SECONDS} s") from error
        if not printed.is_file():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise InputError(f"--format pdf: {browser} wrote no file: {last}")
        shutil.copyfile(printed, output)


@click.command("report", cls=Command, work=_report, no_args_is_help=True)
@click.argument("run")
@option(
    "--format",
    "form",
    type=click.Choice(["html", "pdf"]),
    default="html",
    help="html, or pdf, which Chromium or Google Chrome prints; default html",
)
@option("--output", type=PathText(), metavar="FILE", help="file to write; default report.html or report.pdf")
def command(run: str, form: str, output: str | None) -> ReportArgs:
    """Make the report of a finished run again, as a page of HTML or as a PDF.

    RUN is the id of a training or an evaluation, runs:/<id>, or last, the newest finished training.

    Also: python -m experiments.commands.report RUN --format pdf

    The report names no patient and no file. Research use only.
    """
    if not re.fullmatch("last|(runs:/)?[0-9a-f]{32}", run):
        raise InputError(f"run={run}: expected a run's id, runs:/<id>, or last")
    file = standing_folder() / Path(output or f"report.{form}").expanduser()
    if not file.parent.is_dir():
        raise InputError(f"--output {file}: the folder {file.parent} does not exist")
    require_writable_store(reading=True)
    return ReportArgs(run, form, file)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
