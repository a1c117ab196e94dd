"""Measure a training step and an inference against two other Mask R-CNNs and the machine's limit.

    python -m benchmarks.speed --peer-python <python with torch and torchvision> --peer-setup <folder>
        --matterport-python <python with TensorFlow 2.15> --matterport-source <checkout of akTwelve/Mask_RCNN>

Prints the machine and one Markdown table. Inference is `model.detect`, from uint8 images to masks in the original
image, with 100 detections per image (many) and with at most 5 (few). All systems process the same noise images
and have random weights, ResNet-50, frozen batch norm, 128 sampled regions, 1000 proposals that are anchors, 2 classes,
all layers trained, SGD with momentum. Each system runs in its own process, and they take turns step by step (ours, the
peers, the limit's convolutions, ours, …), so a change of the machine's speed affects all; ratios are computed per turn.

Workers use the usual variables, such as CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS. On a GPU: KERAS_BACKEND=jax; the
table's peaks are then the device's memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any, get_args

from benchmarks.speed_setup import describe_machine
from benchmarks.speed_table import WORK, Measured, heading, row
from benchmarks.speed_turns import Worker, WorkerFailed
from mrcnn.config import Backbone
from mrcnn.processor import cpu_info

PRECISIONS = ("float32", "mixed_bfloat16")
BACKENDS = ("tensorflow", "jax")
RESNET = "resnet50"
"""Backbone of the peers."""
PROCESSES = (("train",), ("many", "few"))
"""Work that shares a process: training apart, so that its peak memory is its own."""
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # As `import mrcnn` sets it where it comes before TensorFlow; the limit's worker imports nothing of ours.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Several processes share a GPU.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}


@dataclass(frozen=True)
class System:
    """Describe an implementation in one precision, and the command of its worker."""

    name: str
    precision: str
    module: str
    python: str
    environment: dict[str, str]
    settings: dict

    def start(self, **settings: Any) -> Worker:
        return Worker(
            self.module, {**self.settings, **settings}, python=self.python, environment=self.environment | QUIET
        )


def our_systems(backend: str, precisions: list[str], backbones: list[str]) -> list[System]:
    return [
        System(
            f"{backend} {precision}" if backbone == RESNET else f"{backbone} {precision}",
            precision,
            "benchmarks.speed_worker",
            sys.executable,
            {"KERAS_BACKEND": backend},
            {"precision": precision, "backbone": backbone},
        )
        for backbone in backbones
        for precision in precisions
    ]


def find_torchvision(arguments: argparse.Namespace) -> tuple[list[System], str]:
    """Find torchvision's systems and version; none if it is neither specified nor installed."""
    python = arguments.peer_python
    if python is None:
        if importlib.util.find_spec("torchvision") is None:
            return [], "no torchvision: name a Python that has it with --peer-python"
        python = sys.executable

    def system(precision: str) -> System:
        settings = {"precision": precision, "setup": arguments.peer_setup}
        # Threads of GNU OpenMP that wait by spinning make torch ten times slower as soon as anything else runs.
        environment = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
        return System(f"torchvision {precision}", precision, "benchmarks.peer_worker", python, environment, settings)

    with system("float32").start(size=64, batch=1) as worker:
        hello = worker.ask("hello")
    # On a CPU its region operators know float32 alone.
    precisions = ["float32"] if hello["device"] == "cpu" else arguments.precision
    text = f"peer: {hello['versions']}, {hello['threads']} threads, {hello['device']}"
    return [system(precision) for precision in precisions], text


def find_matterport(arguments: argparse.Namespace) -> tuple[list[System], str]:
    """Find matterport's system and version; none if it is not specified."""
    if arguments.matterport_python is None:
        return [], "no matterport: name a Python and a checkout with --matterport-python, --matterport-source"
    system = System(
        "matterport float32",
        "float32",
        "benchmarks.matterport_worker",
        arguments.matterport_python,
        {},
        {"source": arguments.matterport_source},
    )
    with system.start(size=64, batch=1) as worker:
        return [system], f"peer: {worker.ask('hello')['versions']}"


def take_turns(
    systems: list[System], works: list[str], backend: str, size: int, batch: int, turns: int
) -> Iterator[dict[str, Measured]]:
    """Measure all systems turn by turn; return the measurements of each work by system name."""
    with ExitStack() as stack:
        limit = stack.enter_context(
            Worker("benchmarks.speed_limit", {}, environment={"KERAS_BACKEND": backend} | QUIET)
        )
        device = limit.ask("hello")["device"]
        workers = [(system, stack.enter_context(system.start(size=size, batch=batch))) for system in systems]
        for work in works:
            results = {}
            for system, worker in workers:
                tell(f"{size}×{size}, batch {batch}, {WORK[work]}: {system.name} compiles")
                answer = worker.ask("prepare", work=work)
                results[system.name] = Measured(
                    size, batch, work, system.name, answer["seconds"], answer["gflop"], answer["kept"], device
                )
            for turn in range(turns):
                tell(f"{size}×{size}, batch {batch}, {WORK[work]}: turn {turn + 1} of {turns}")
                rates = limit.ask("step")
                for system, worker in workers:
                    results[system.name].seconds.append(worker.ask("step")["seconds"])
                    results[system.name].limits.append(rates[system.precision])
            for system, worker in workers:
                answer = worker.ask("peak")
                results[system.name].peak = answer.get("device_bytes", answer["bytes"])
            yield results


def tell(text: str) -> None:
    """Print progress over the previous line, in a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def peer_of(system: System, peers: list[System], measured: dict[str, Measured]) -> Measured | None:
    """Return the fastest peer in the same precision, or in float32 if there is none; None for another backbone."""
    if system in peers or not peers or system.settings.get("backbone", RESNET) != RESNET:
        return None
    same = [peer for peer in peers if peer.precision == system.precision]
    return min((measured[peer.name] for peer in same or peers), key=lambda each: median(each.seconds))


def size_and_batch(text: str) -> tuple[int, int]:
    matched = re.fullmatch(r"(\d+)x(\d+)", text)
    if not matched:
        raise argparse.ArgumentTypeError(f"{text!r}: expected <side>x<batch>, as 512x2")
    return int(matched[1]), int(matched[2])


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--at",
        nargs="+",
        type=size_and_batch,
        default=[(512, 2), (256, 4)],
        metavar="SIDExBATCH",
        help="image sides and batches, as 512x2 256x4, the default",
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        default=[os.environ.get("KERAS_BACKEND", "tensorflow")],
        help="default: KERAS_BACKEND, or tensorflow; jax on a CPU takes minutes a row",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        help="default: both, but float32 alone on a processor whose widest vectors are AVX2's, where bfloat16 is "
        "emulated: tens of times slower",
    )
    parser.add_argument(
        "--backbone",
        nargs="+",
        choices=get_args(Backbone),
        default=[RESNET],
        help="default: resnet50, that of the peers; small has group normalization, the others frozen batch norm",
    )
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="default: all three")
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each row, default 5")
    parser.add_argument("--peer-python", metavar="PYTHON", help="one with torch and torchvision; default: this one")
    parser.add_argument(
        "--peer-setup", metavar="FOLDER", help="holds a torchvision_cpu.py to import before torchvision"
    )
    parser.add_argument("--matterport-python", metavar="PYTHON", help="one with TensorFlow 2.15 and NumPy 1")
    parser.add_argument("--matterport-source", metavar="FOLDER", help="a checkout of akTwelve/Mask_RCNN")
    arguments = parser.parse_args(words)
    if arguments.turns < 1:
        parser.error("--turns: expected at least 1")
    if arguments.precision is None:
        flags = cpu_info()[1]
        arguments.precision = list(PRECISIONS[:1] if "avx2" in flags and "avx512f" not in flags else PRECISIONS)
    if bool(arguments.matterport_python) != bool(arguments.matterport_source):
        parser.error("--matterport-python, --matterport-source: expected both or none")
    for option in ("peer_python", "matterport_python"):
        given = getattr(arguments, option)
        if given:
            found = shutil.which(given)
            if found is None:
                parser.error(f"--{option.replace('_', '-')}: {given} is no program")
            setattr(arguments, option, os.path.abspath(found))
    for option in ("peer_setup", "matterport_source"):
        if getattr(arguments, option):
            setattr(arguments, option, os.path.abspath(getattr(arguments, option)))
    return arguments


def main() -> None:
    arguments = parse()
    torchvision, about_torchvision = find_torchvision(arguments)
    matterport, about_matterport = find_matterport(arguments)
    peers = [*torchvision, *matterport]
    print(*describe_machine(), about_torchvision, about_matterport, "", heading(), sep="\n", flush=True)
    limits: dict[str, list[float]] = {}
    for size, batch in arguments.at:
        for backend in arguments.backend:
            systems = [*our_systems(backend, arguments.precision, arguments.backbone), *peers]
            for process in PROCESSES:
                works = [work for work in process if work in arguments.work]
                if not works:
                    continue
                for measured in take_turns(systems, works, backend, size, batch, arguments.turns):
                    tell("")
                    for system in systems:
                        each = measured[system.name]
                        print(row(each, peer_of(system, peers, measured)), flush=True)
                        limits.setdefault(f"{system.precision} on {each.device}", []).extend(each.limits)
    found = ", ".join(
        f"{name} {median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})" for name, rates in limits.items()
    )
    print(f"\nLimit, 3×3 convolutions of 256 channels, GFLOP/s: {found}")


if __name__ == "__main__":
    try:
        main()
    except WorkerFailed as error:
        sys.exit(f"\n{error}")
