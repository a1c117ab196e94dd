"""The command `mrcnn demo`, also `python -m experiments.commands.demo`."""

from __future__ import annotations

import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from experiments.commands.arguments import check_model_address
from experiments.commands.command import Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, option
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from mrcnn.serving.limits import limits_from_environment

EXAMPLES = 8
"""Maximum number of example images."""
EXAMPLE_SEED = 1_000_003
"""Seed of the example phantoms, which no training uses by default."""


@dataclass(frozen=True)
class DemoArgs:
    """Validated arguments."""

    model: str
    host: str
    port: int
    task: str
    examples: Path | None = None


def _demo(arguments: DemoArgs) -> int:
    """Serve the page until Ctrl-C; return the exit status.

    Raises:
        InputError: the model does not exist or is for volumes, or the address cannot be used.
    """
    limits = limits_from_environment()
    examples = None
    if arguments.examples is not None:
        from mrcnn.data.readers.image_files import images_in

        examples = images_in(arguments.examples)[:EXAMPLES]
    with listening_socket(arguments.host, arguments.port) as listening, tempfile.TemporaryDirectory() as scratch:
        quiet_libraries()
        with silent_start():
            import numpy as np

            import mrcnn.models  # noqa: F401
            import trackers.packaging.tracked_model  # noqa: F401
            from experiments.prediction.detector import open_detector
            from experiments.terminal import Terminal, phase
        with phase(Terminal(), "Loading and compiling the model"):
            detector = open_detector(arguments.model, task=arguments.task, folder=Path(scratch))
            if detector.volumes:
                raise InputError(f"model={arguments.model}: expected a model of images; mrcnn predict takes volumes")
            detector.find([np.zeros((8, 8, 1), np.uint8)])  # compile before the first request

        import uvicorn

        from experiments.prediction.demo_app import demo_app

        if examples is None:
            examples = phantom_files(detector.phantoms)
        port = listening.getsockname()[1]
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        hosts = [f"{name}:{port}" for name in (host, "127.0.0.1", "localhost", "[::1]")]
        name = Path(arguments.model).name if arguments.model.endswith(".keras") else arguments.model
        app = demo_app(detector, limits, hosts, model=name, examples=examples)
        print(f"Showing {arguments.model} on http://{host}:{port}/ until Ctrl-C. Research use only", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            print("mrcnn: ended", file=sys.stderr)
    return 0


def phantom_files(kind: str | None) -> list[Path]:
    """Return image files of phantoms that no training has seen; empty without a kind, or if it has no image files."""
    if kind is None:
        return []
    from experiments.config.schema import DataOptions
    from experiments.preparation.datasets import open_dataset

    # 10 is the least number of phantoms.
    options = DataOptions.model_validate({"phantoms": kind, "phantom_images": 10, "phantom_seed": EXAMPLE_SEED})
    return [record.path for record in open_dataset(options).records if record.volume is None][:EXAMPLES]


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind the address before the model is loaded, so that a port in use is reported at once.

    Raises:
        InputError: the address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from error


@click.command("demo", cls=Command, work=_demo, no_args_is_help=True)
@click.argument("model", type=PathText())
@option("--port", default="8000", metavar="NUMBER", help="port of the page, 0 for a free one; default 8000")
@option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="address to listen on; default 127.0.0.1. Any other address opens the page to the network, without a password",
)
@option(
    "--examples",
    type=PathText(),
    metavar="FOLDER",
    help="images that the page offers, the first eight of the folder; default: phantoms, if the model was trained on "
    "phantoms",
)
@option("--task", default="any", metavar="NAME", help="the task of the model `last`; default any")
def command(model: str, port: str, host: str, examples: str | None, task: str) -> DemoArgs:
    """Serve a local page that shows the predictions of a trained model for an image.

    MODEL is models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; last, the newest finished run of the
    task; or a .keras file.

    Also: python -m experiments.commands.demo ..., and mlflow run . -e demo -P model=MODEL ...

    Images are PNG, JPEG, TIFF, BMP or DICOM. Only the last few images are stored, in memory. docs/how-to/serving.md
    has the details. Research use only.
    """
    if not (port.isascii() and port.isdigit() and len(port) < 10 and int(port) < 1 << 16):
        raise InputError(f"--port {port}: expected a number from 0 to 65535")
    folder = None if examples is None else standing_folder() / Path(examples).expanduser()
    return DemoArgs(check_model_address(model), host, int(port), task, folder)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
