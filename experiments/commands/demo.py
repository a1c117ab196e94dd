"""The command `mrcnn demo MODEL`, also `python -m experiments.commands.demo`: a local page that shows what a model
finds."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.commands.arguments import check_model_address
from experiments.commands.exit_status import BAD_INPUT, quiet_libraries, silent_start
from experiments.config.overrides import parse_arguments
from mrcnn.errors import InputError
from mrcnn.serving.limits import limits_from_environment

HELP = """\
A page in the browser of this machine: drop an image, see what a trained model finds in it.

usage: mrcnn demo MODEL [--port 8000] [--host 127.0.0.1] [--task NAME]
       python -m experiments.commands.demo ...                             the same
       mlflow run . -e demo -P model=MODEL ...                    the same, in an environment of its own

  MODEL   models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; last, the newest finished run of
          the task; or a .keras file
  --port  0: one that is free
  --host  address to listen on; another than the default lets others of the network in: nobody is asked for a password
  --task  whose last run, thyroid

Images are PNG, JPEG, TIFF, BMP or DICOM, are kept in memory only, and no more than the last few. docs/serving.md tells
the rest. Research use only.
"""
OPTIONS = ("port", "host", "task")


@dataclass(frozen=True)
class DemoArgs:
    """The command line, checked."""

    model: str
    host: str
    port: int
    task: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"--help", "-h"} & set(arguments):
        print(HELP, end="")
        return 0
    try:
        return demo(parse_command(arguments))
    except InputError as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return BAD_INPUT


def parse_command(arguments: Sequence[str]) -> DemoArgs:
    """The command line, checked before anything heavy is loaded.

    Raises:
        InputError: a word or value that is not understood, or a model file that is not there.
    """
    model, *rest = arguments
    if model.startswith("--"):
        raise InputError(f"{model}: expected the model first, as in mrcnn demo models:/mrcnn-ultrasound@champion")
    options = parse_arguments(rest)
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise InputError(f"--{unknown[0]}: no such option; expected {', '.join(f'--{name}' for name in OPTIONS)}")
    port = options.get("port", "8000")
    if not (port.isascii() and port.isdigit() and len(port) < 10 and int(port) < 1 << 16):
        raise InputError(f"--port {port}: expected a number from 0 to 65535")
    return DemoArgs(
        check_model_address(model), options.get("host", "127.0.0.1"), int(port), options.get("task", "thyroid")
    )


def demo(wanted: DemoArgs) -> int:
    """Serve the page until Ctrl-C; returns the exit status.

    Raises:
        InputError: no such model, one for volumes, or an address that cannot be listened on.
    """
    limits = limits_from_environment()
    with listening_socket(wanted.host, wanted.port) as listening, tempfile.TemporaryDirectory() as scratch:
        quiet_libraries()
        with silent_start():
            import numpy as np

            import mrcnn.models  # noqa: F401
            import trackers.packaging.tracked_model  # noqa: F401
            from experiments.prediction.detector import open_detector
        detector = open_detector(wanted.model, task=wanted.task, folder=Path(scratch))
        if detector.volumes:
            raise InputError(f"model={wanted.model}: finds in volumes; expected a model of images, see mrcnn predict")

        detector.find([np.zeros((8, 8, 1), np.uint8)])  # compiled before the first image

        import uvicorn

        from experiments.prediction.demo_app import demo_app

        port = listening.getsockname()[1]
        host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
        app = demo_app(detector, limits, [f"{name}:{port}" for name in (host, "127.0.0.1", "localhost", "[::1]")])
        print(f"Showing {wanted.model} on http://{host}:{port}/ until Ctrl-C. Research use only", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            print("mrcnn: ended", file=sys.stderr)
    return 0


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound before the model loads, so that a port in use is told at once. Raises `InputError` where it cannot be."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main())
