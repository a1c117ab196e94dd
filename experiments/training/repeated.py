"""Train several models of one task, each in a run below a common one: the folds of a cross-validation, or seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from mlflow import MlflowClient
from rich.console import Console

from experiments.config.resolve import Resolved, parameters, resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import Result, inference_model, measure
from experiments.evaluation.registration import package_and_register
from experiments.evaluation.report import log_report
from experiments.terminal import Terminal
from experiments.training.checkpointing import DATA, ResumableTraining, requested_facts
from experiments.training.planner import shared_settings, with_shared_settings
from experiments.training.resume import intact_checkpoint, resumable_run, run_name, task_run
from experiments.training.trainer import Trainer
from experiments.training.training_data import Data, record_data
from mrcnn.backend import clear_session
from mrcnn.errors import InputError
from mrcnn.models import load
from mrcnn.models.training.data_parallel import make_data_parallel
from trackers.checkpoints.checkpoint_store import load_json, save_json, to_disk
from trackers.checkpoints.initial_weights import MODEL, PACKAGE
from trackers.checkpoints.unfinished_runs import Unfinished, recorded
from trackers.runs.run import Parent, Run


@dataclass(frozen=True)
class Member:
    """One of the trainings.

    Attributes:
        config: with what the data decided.
        file: the model of the best epoch.
        result: of that model on its reported split.
        best_value: its validation metric; None: it was never defined.
    """

    config: TaskConfig
    file: Path
    result: Result
    best_value: float | None


@dataclass
class TrainingGroup:
    """Several trainings of one task, which another process can resume: the finished ones are not repeated.

    Attributes:
        config: the common one; after the first training with its plan, which the others share.
        run: the common run.
        data: read again where the group is resumed; None: it is new.
        plan: settings that all trainings share, planned and measured in the first.
        kind: such as `3 folds`.
        name: name of the run from the user.
    """

    config: TaskConfig
    run: Run
    console: Console
    data: Data | None
    plan: Mapping[str, Any] | None = None
    kind: str = ""
    name: str | None = None

    @property
    def folder(self) -> Path:
        """The folder of the models, until the run has finished."""
        return Unfinished(self.run.id).folder

    def begin(self, facts: Mapping[str, object]) -> None:
        """Log the common configuration of a new group, of `requested_facts`; it can be resumed from now on."""
        if self.data is None:
            self.run.params(parameters(self.config))
            self.run.text(resolved_yaml(self.config), "config.yaml")
            Unfinished(self.run.id).save_group(facts)

    def train(
        self, config: TaskConfig, data: Data, name: str, *, seed: int, file: str, tags: Mapping[str, str] | None = None
    ) -> Member:
        """Train and evaluate one model in a run of its own, and save the best epoch's as `file` in the folder.

        `seed` is that of weights, order and augmentation, so that no training depends on those before it.
        """
        if self.plan is not None:
            config = with_shared_settings(config, self.plan)
        member = self._train(config, data, name, seed=seed, file=file, tags=tags)
        if self.plan is None:
            self.plan = shared_settings(member.config)
            self.config = with_shared_settings(self.config, self.plan)
            self.run.rename(run_name(self.config, self.name, self.kind))
        return member

    def _train(
        self, config: TaskConfig, data: Data, name: str, *, seed: int, file: str, tags: Mapping[str, str] | None
    ) -> Member:
        path = self.folder / file
        record = load_json(notes) if (notes := path.with_suffix(".json")).exists() else {}
        facts = requested_facts(config, data)
        # Files of the user may define the folds.
        if record and record[DATA] != facts[DATA]:
            raise InputError(
                f"{name}: its images differ from those that it was started with; start again without --resume"
            )
        if "confidence" in record:
            return self._finished(path, record, data)
        with (
            task_run(
                config, run_name=run_name(config, self.name, name), tags={"model": MODEL, **(tags or {})},
                parent=Parent(self.run.id, self.run.experiment_id), resumed=record.get("run"),
            ) as run,
            (unfinished := Unfinished(run.id)).held(),
            tempfile.TemporaryDirectory(dir=self.folder) as folder,
        ):  # fmt: skip
            save_json(notes, started := {"run": run.id, DATA: facts[DATA]})
            self.console.print(f"\n{name.capitalize()}; run {run.id}", style="bold")
            keras.utils.set_random_seed(seed)
            record_data(data, config, run)
            checkpoint = intact_checkpoint(unfinished, self.console)
            training = ResumableTraining(unfinished.folder, data, facts, checkpoint)
            trainer = Trainer(
                config, data, run, self.console, Path(folder), training=training, name=self.name, part=name
            )
            trainer.plan()
            with make_data_parallel(trainer.config.train.devices, trainer.config.train.batch_size):
                trainer.build()
                trainer.fit()
            trainer.evaluate()
            trainer.model.save(path)
            to_disk(path)
            log_report(run)
            member = Member(trainer.config, path, trainer.result, trainer.best_value)
            planned = member.config.model_dump(mode="json")
            chosen = {"confidence": member.result.confidence, "min_slices": member.result.min_slices}
            save_json(notes, {**started, "config": planned, **chosen, "best_value": member.best_value})
        unfinished.remove()
        clear_session()
        return member

    def _finished(self, path: Path, record: Mapping[str, Any], data: Data) -> Member:
        """Return a training that finished before the group was interrupted; its model is evaluated again."""
        run_id, client = str(record["run"]), MlflowClient()
        if (run := recorded(client, run_id)) is not None and run.info.status != "FINISHED":
            client.set_terminated(run_id)  # the process was killed just before
        Unfinished(run_id).remove()
        self.console.print(f"\n{path.stem}: finished before; run {run_id}", style="bold")
        config = TaskConfig.model_validate(record["config"])
        model = inference_model([load(path)], config)
        result = measure(model, config, data, record["confidence"], min_slices=record.get("min_slices", 1))
        clear_session()
        return Member(config, path, result, record["best_value"])

    def register(self, files: Sequence[Path], result: Result, config: TaskConfig, data: Data) -> None:
        """Package and register the resulting model; the report is written also where that fails."""
        with ExitStack() as at_end:
            at_end.callback(log_report, self.run)
            self.run.tags({PACKAGE: package_and_register(files, result, config, data, self.run, self.console)})


@contextmanager
def training_group(resolved: Resolved, resume: str | None, kind: str) -> Iterator[TrainingGroup]:
    """Start or reopen the common run, see `resumable_run`."""
    console = Terminal()
    with resumable_run(resolved, resume, console, kind) as (run, found):
        data = None if found is None else found.data
        yield TrainingGroup(resolved.config, run, console, data, kind=kind, name=resolved.name)
