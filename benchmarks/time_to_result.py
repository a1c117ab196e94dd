"""Measure where the wall time of `mrcnn train` goes, from the command to the registered model.

    python -m benchmarks.time_to_result                            # the README's first command, on phantoms
    python -m benchmarks.time_to_result --dataset DIR --budget 4m  # any words of `mrcnn train`

Trains in a process of its own, in a temporary folder with an empty cache, prints its output, and then a Markdown table
of seconds. The parts are timed by wrapping functions of the project from outside; a part does not include those within
it. The processor time, which other jobs on the machine change little, is that of the process without the loader's
workers.
"""

from __future__ import annotations

import argparse
import builtins
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

MEASUREMENT = "measure step and validation"
PARTS = (
    "import", "data check", "plan", "build", MEASUREMENT, "compile training step",
    "compile prediction", "training steps", "wait for data", "validation", "checkpoints", "threshold",
    "test evaluation", "report", "package", "register", "other",
)  # fmt: skip
FIXED = ("import", "data check", "compile training step", "compile prediction", "report", "package")
"""The parts whose sum, which does not grow with the length of the training, is printed too."""
FUNCTIONS = {
    "experiments.training.trainer:read_data": "data check",
    "experiments.training.trainer:Trainer.plan": "plan",
    "experiments.training.trainer:Trainer.build": "build",
    "experiments.training.trainer:measured_step": MEASUREMENT,
    "experiments.training.trainer:measured_validation": MEASUREMENT,
    "experiments.training.callbacks:Validate.on_epoch_end": "validation",
    "experiments.training.callbacks:SaveCheckpoint.save": "checkpoints",
    "experiments.training.trainer:evaluate_on_test": "test evaluation",
    "experiments.training.trainer:log_report": "report",
    "experiments.evaluation.registration:log_packaged_model": "package",
    "experiments.evaluation.registration:register_model": "register",
}
"""Wrapped functions, as module:name, with their parts."""


class Clock:
    """Seconds and processor seconds of each part; of those that are open, the innermost one runs."""

    def __init__(self, start: float) -> None:
        self.seconds, self.processor = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
        self.steps = 0
        self.open, self._since = ["import"], (start, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        self.open.append(name)
        try:
            yield
        finally:
            self._switch()
            self.open.pop()

    def end_of_import(self) -> None:
        """End the first part, which began with the process."""
        self._switch()
        self.open[0] = "other"

    def wrap(self, function: Callable, name: str) -> Callable:
        """Return `function` with its time counted as part `name`."""

        @functools.wraps(function)
        def timed(*args: Any, **settings: Any) -> Any:
            with self.part(name):
                return function(*args, **settings)

        return timed

    def _switch(self) -> None:
        now, before = (time.time(), time.process_time()), self._since
        self.seconds[self.open[-1]] += now[0] - before[0]
        self.processor[self.open[-1]] += now[1] - before[1]
        self._since = now


def install(clock: Clock) -> None:
    """Wrap the functions of the training."""
    import experiments.terminal

    def phase(console: Any, text: str) -> Any:
        return clock.part("threshold") if text.startswith("Choosing the threshold") else original(console, text)

    # Before the other modules take it by name.
    original, experiments.terminal.phase = experiments.terminal.phase, phase
    for place, name in FUNCTIONS.items():
        module, _, path = place.partition(":")
        owner: Any = import_module(module)
        *classes, attribute = path.split(".")
        for each in classes:
            owner = getattr(owner, each)
        setattr(owner, attribute, clock.wrap(getattr(owner, attribute), name))
    _wrap_steps(clock)
    load = builtins.__import__

    def timed_import(name: str, *args: Any, **settings: Any) -> Any:
        in_main = threading.current_thread() is threading.main_thread()
        if name in sys.modules or clock.open[-1] == "import" or not in_main:
            return load(name, *args, **settings)
        with clock.part("import"):
            return load(name, *args, **settings)

    builtins.__import__ = timed_import


def _wrap_steps(clock: Clock) -> None:
    """Wrap the functions that Keras makes for training and prediction."""
    from mrcnn.models.detector_base import DetectorBase

    make_train, make_predict = DetectorBase.make_train_function, DetectorBase.make_predict_function

    def make_train_function(self: Any, force: bool = False) -> Any:
        if self.train_function is None or force:
            make_train(self, force)
            train, compiled = self.train_function, False

            def step(batches: Iterator) -> Any:
                nonlocal compiled
                with clock.part("wait for data"):
                    batch = next(batches)
                if clock.open[-1] == MEASUREMENT:
                    part = MEASUREMENT if compiled else "compile training step"
                else:
                    part = "training steps" if compiled else "compile training step"
                    clock.steps += 1
                compiled = True
                with clock.part(part):
                    return train(iter([batch]))

            self.train_function = step
        return self.train_function

    def make_predict_function(self: Any, force: bool = False) -> Any:
        if self.predict_function is None or force:
            make_predict(self, force)
            predict = self.predict_function

            def first(batches: Any) -> Any:
                with clock.part("compile prediction"):
                    outputs = predict(batches)
                self.predict_function = predict
                return outputs

            self.predict_function = first
        return self.predict_function

    DetectorBase.make_train_function = make_train_function  # pyright: ignore[reportAttributeAccessIssue]
    DetectorBase.make_predict_function = make_predict_function


def train(start: str, file: str, words: list[str]) -> int:
    """Run `mrcnn train` in this process, which was started at `start`, and write its seconds to `file`."""
    clock = Clock(float(start))
    from experiments.cli import main
    from experiments.commands.command import quiet_libraries

    quiet_libraries()
    install(clock)
    clock.end_of_import()
    status = main(["train", *words])
    with clock.part("other"):
        Path(file).write_text(
            json.dumps({"steps": clock.steps, "seconds": clock.seconds, "processor": clock.processor})
        )
    return status


def main() -> int:
    from benchmarks.speed_setup import describe_machine

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.time_to_result", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    words = parser.parse_known_args()[1]
    words = [str(Path(word).resolve()) if Path(word).exists() else word for word in words]
    print(*describe_machine(), "", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "seconds.json")
        code = f"import sys; from {__spec__.name} import train; sys.exit(train(sys.argv[1], sys.argv[2], sys.argv[3:]))"
        start = time.time()
        status = subprocess.run(
            [sys.executable, "-c", code, repr(start), str(file), *words], cwd=folder, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "MRCNN_CACHE": f"{folder}/cache"},
        ).returncode  # fmt: skip
        total = time.time() - start
        if status:
            return status
        found = json.loads(file.read_text())
    seconds, processor = found["seconds"], found["processor"]
    print(f"\n{found['steps']} steps\n\n| part | seconds | share | processor s |\n| :--- | ---: | ---: | ---: |")
    for part in PARTS:
        print(f"| {part} | {seconds[part]:.1f} | {seconds[part] / total:.0%} | {processor[part]:.1f} |")
    print(f"| exit | {total - sum(seconds.values()):.1f} | | |")
    print(f"| **whole** | **{total:.1f}** | | **{sum(processor.values()):.1f}** |")
    fixed = [sum(each[part] for part in FIXED) for each in (seconds, processor)]
    print(f"\n{', '.join(FIXED)} together: {fixed[0]:.1f} s, processor: {fixed[1]:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
