"""Commands as a person runs them, stopped at any moment: they end, say so in a line, and leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from experiments.commands.train import AGAIN
from mrcnn.config import ModelConfig

ROOT = Path(__file__).parents[3]
ENDLESS = {"epochs": 4000, "validate_every": 4000, "workers": 2}
START = """
import signal, sys
from mrcnn.data.loading import loader
from experiments.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
loader.DEADLINE_SECONDS = {deadline}
sys.exit(main(sys.argv[1:]))
"""
pytestmark = pytest.mark.slow


class Command:
    """`mrcnn WORDS...` in a process of its own."""

    def __init__(self, words, log, deadline=300):
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START.format(deadline=deadline), *words],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=output,
            )

    def said(self):
        return self._log.read_text(errors="replace")

    def wait_for(self, condition, seconds=400):
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.05)

    def workers(self):
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if any("mrcnn.data.loading.worker" in part for part in child.cmdline())]

    def end(self):
        """Its exit status, and the last line that it printed."""
        return self.process.wait(120), self.said().splitlines()[-1]


@pytest.fixture
def command(store, tmp_path):
    """Starts commands that end with the test."""
    begun = []

    def start(words, **options):
        begun.append(Command(list(map(str, words)), tmp_path / f"{len(begun)}.log", **options))
        return begun[-1]

    yield start
    for each in begun:
        if each.process.poll() is None:
            for child in psutil.Process(each.process.pid).children(recursive=True):
                child.kill()
            each.process.kill()


@pytest.fixture
def training(command, phantom_folder, tiny_arguments):
    """Starts a training without an end and waits until it is well under way; returns it and its workers."""

    def start(**options):
        words = tiny_arguments(**{"task": "thyroid", "dataset": phantom_folder, **ENDLESS})
        started = command(["train", *words], **options)
        started.wait_for(lambda: "epoch 2/" in started.said())
        return started, started.workers()

    return start


def newest(store):
    return store.search_runs([store.get_experiment_by_name("thyroid").experiment_id], max_results=1)[0]


STOPPED = {signal.SIGINT: (130, f"mrcnn: stopped; {AGAIN}"), signal.SIGTERM: (143, f"mrcnn: terminated; {AGAIN}")}


@pytest.mark.parametrize("number", STOPPED)
@pytest.mark.parametrize("stalled", [False, True], ids=["at work", "its workers stopped"])
def test_one_stop_ends_a_training(training, store, number, stalled):
    started, workers = training()
    for worker in workers if stalled else ():
        worker.suspend()
    time.sleep(3)
    begun = time.monotonic()
    started.process.send_signal(number)
    assert started.end() == STOPPED[number]
    assert time.monotonic() - begun < 60
    assert newest(store).info.status == "KILLED"
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("times", [2, 6])
def test_more_stops_end_it_too(training, store, times):
    started, workers = training()
    for _ in range(times):
        if started.process.poll() is None:
            started.process.send_signal(signal.SIGINT)
            time.sleep(0.2)
    assert started.process.wait(120) in (130, -signal.SIGINT, 1), started.said()
    assert newest(store).info.status == "KILLED"
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


def test_a_training_whose_worker_is_stopped_gives_up_by_the_names_of_the_images(training, store):
    started, (worker, *_) = training(deadline=6)
    worker.suspend()
    status, line = started.end()
    # A busy machine looks late.
    assert status == 2 and re.search(r"^mrcnn: 0.*\.png: waiting for \d+ s of at most 6; the folder", line), line
    run = newest(store)
    assert run.info.status == "FAILED" and " s of at most 6" in run.data.tags["error"]


def test_predictions_that_were_stopped_go_on_to_the_same_files(command, tmp_path):
    from mrcnn import MaskRCNN

    options = {"image_size": 64, "channels": 1, "backbone": "small", "fpn_channels": 16, "head_width": 32,
               "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30,
               "max_detections": 10}  # fmt: skip
    MaskRCNN(ModelConfig(class_names=("iso", "hypo"), **options)).save(tmp_path / "tiny.keras")
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    for number in range(150):
        Image.fromarray(random.integers(0, 255, (300, 400), np.uint8)).save(tmp_path / "in" / f"{number:03}.png")
    words = ["predict", tmp_path / "tiny.keras", tmp_path / "in", "--confidence", "0.2", "--write", "coco,mask"]

    assert command([*words, "--output", tmp_path / "whole"]).process.wait(400) == 0
    cut = command([*words, "--output", tmp_path / "cut"])
    cut.wait_for(lambda: len(list((tmp_path / "cut").glob("json/*"))) > 20)
    cut.process.send_signal(signal.SIGINT)
    assert cut.end() == (130, "mrcnn: stopped; the same command again goes on from here")
    done = len(list((tmp_path / "cut").glob("json/*")))
    assert 20 < done < 150
    assert command([*words, "--output", tmp_path / "cut"]).process.wait(400) == 0

    def files(folder):
        return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}

    whole, resumed = files(tmp_path / "whole"), files(tmp_path / "cut")
    assert whole.keys() == resumed.keys()
    for name in whole:
        if name.startswith("json/") or name.endswith(".png"):
            assert whole[name].read_bytes() == resumed[name].read_bytes(), name
    assert len([name for name in whole if name.startswith("json/")]) == 150
    assert json.loads(whole["record.json"].read_text()).keys() == json.loads(resumed["record.json"].read_text()).keys()
