"""Load test a served model: responses per second, latency, memory, and equality with offline predictions.

    python -m benchmarks.serving models:/mrcnn-ultrasound@champion --seconds 120

Starts `mlflow models serve` on loopback and sends requests from 1, 8 and 32 threads, each with its own connection and
without pause: phantoms of many sizes as PNG in base64. Prints a Markdown table. Clients and server share the machine;
on a busy one compare the processor time, which counts the server alone.
Rejected requests (503) are repeated after the second in the response; times are those of successful requests. Exits
with 1 if a response is an error or differs from the offline prediction by more than the rounding of another batch size.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import mlflow
import numpy as np
import psutil
from PIL import Image
from pycocotools import mask as coco_mask

from benchmarks.speed_setup import describe_machine
from mrcnn.data import read_dataset
from mrcnn.phantoms import write_dataset

SIZES = 200
SIDES = (96, 900)
"""Pixels of the images' shortest and longest side."""


CONFIDENCE = 0.1
"""Low, so that a model of little training finds something too."""
SCORE_TOLERANCE, BOX_TOLERANCE, MASK_TOLERANCE = 0.01, 0.5, 0.02
"""Largest difference from the offline prediction: of a score, of a side in pixels, and of a mask as a fraction of its
area. An instance whose score is as near to the confidence may be missing."""


@dataclass
class Level:
    """Store the measurements of a number of clients."""

    seconds: list[float] = field(default_factory=list)
    sent_away: int = 0
    wrong: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=120, help="of each level")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    given = parser.parse_args(arguments)
    requests = bodies(SIZES)
    model = mlflow.pyfunc.load_model(given.model)
    expected = json.loads(json.dumps([model.predict(**as_arguments(body)) for body in requests]))
    found = sum(len(answer["instances"]) for (answer,) in expected) / SIZES
    about = f"Model {given.model}, {SIZES} images of {SIDES[0]} to {SIDES[1]} pixels, {found:.1f} instances in each.\n"
    print(*describe_machine(), about, sep="\n")
    print(
        "| clients | answers/s | server's processor ms/answer | p50 (ms) | p99 (ms) | sent away | unlike offline "
        "| RSS (MiB) start | end | change |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    wrong = 0
    with serving(given.model) as (port, process):
        ask_for(port, requests, expected, clients=2, seconds=max(10.0, given.seconds / 4))  # warm
        for clients in given.clients:
            before, busy = memory(process), processor_seconds(process)
            level = ask_for(port, requests, expected, clients, given.seconds)
            after, busy = memory(process), processor_seconds(process) - busy
            p50, p99 = np.percentile(level.seconds or [np.nan], (50, 99)) * 1000
            rates = f"{len(level.seconds) / given.seconds:.1f} | {1000 * busy / max(len(level.seconds), 1):.1f}"
            print(
                f"| {clients} | {rates} | {p50:.0f} | {p99:.0f} | {level.sent_away} | {len(level.wrong)} "
                f"| {before:.0f} | {after:.0f} | {after / before - 1:+.1%} |",
                flush=True,
            )
            for line in level.wrong[:3]:
                print(line, file=sys.stderr)
            wrong += len(level.wrong)
    return int(wrong > 0)


def bodies(count: int) -> list[bytes]:
    """Build requests with an image each, all of different sizes, from a few phantoms."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        phantoms = read_dataset(write_dataset("thyroid", Path(folder, "phantoms"), images=8, seed=1))
        pictures = [Image.fromarray(phantoms[number].image[..., 0]) for number in range(8)]
    made = []
    for number in range(count):
        width, height = (int(side) for side in random.integers(*SIDES, 2))
        file = io.BytesIO()
        pictures[number % len(pictures)].resize((width, height)).save(file, "PNG")
        image = base64.b64encode(file.getvalue()).decode()
        made.append(json.dumps({"inputs": [image], "params": {"confidence": CONFIDENCE}}).encode())
    return made


def as_arguments(body: bytes) -> dict:
    """Convert a request to the arguments of `predict`."""
    request = json.loads(body)
    return {"data": request["inputs"], "params": request["params"]}


@contextmanager
def serving(model: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run MLflow's server; yield (port, process)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-h", "127.0.0.1",
        "-p", str(port),
    ]  # fmt: skip
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            while not is_up(port):
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"the server ended:\n{log.read().decode(errors='replace')[-3000:]}")
                time.sleep(0.5)
            yield port, psutil.Process(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def memory(process: psutil.Process) -> float:
    """Measure the resident memory of a process and its children in MiB."""
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / (1 << 20)


def processor_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process and its children have used."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def ask_for(port: int, requests: Sequence[bytes], expected: Sequence, clients: int, seconds: float) -> Level:
    """Send requests from `clients` threads for some seconds, with the images in turn."""
    level, lock, end = Level(), threading.Lock(), time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < end:
            number = (number + 7) % len(requests)
            started = time.perf_counter()
            connection.request("POST", "/invocations", requests[number], {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            took = time.perf_counter() - started
            if response.status == 503:
                with lock:
                    level.sent_away += 1
                time.sleep(float(response.headers["Retry-After"]))
                continue
            is_same = response.status == 200 and are_near(json.loads(text)["predictions"][0], expected[number][0])
            with lock:
                level.seconds.append(took)
                if not is_same:
                    level.wrong.append(f"image {number}: {response.status} {text[:300]!r}")
        connection.close()

    threads = [threading.Thread(target=client, args=(31 * number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return level


def are_near(answer: dict, expected: dict) -> bool:
    """Return whether each instance of one answer has a counterpart in the other, within the tolerances."""
    return all(
        instance["score"] < CONFIDENCE + SCORE_TOLERANCE or any(is_near(instance, other) for other in others)
        for instances, others in permutations((answer["instances"], expected["instances"]))
        for instance in instances
    )


def is_near(instance: dict, other: dict) -> bool:
    if instance["class"] != other["class"] or abs(instance["score"] - other["score"]) > SCORE_TOLERANCE:
        return False
    if np.abs(np.subtract(instance["bbox"], other["bbox"])).max() > BOX_TOLERANCE:
        return False
    masks = [coco_mask.decode(each["segmentation"]) for each in (instance, other)]
    return (masks[0] != masks[1]).sum() <= MASK_TOLERANCE * max(masks[0].sum(), 50)


if __name__ == "__main__":
    sys.exit(main())
