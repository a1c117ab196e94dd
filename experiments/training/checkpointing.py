"""The state of a training, kept after each epoch, and the training that goes on from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import keras

from experiments.config.overrides import flattened
from experiments.config.schema import TaskConfig
from experiments.training.callbacks import EpochCallback
from experiments.training.training_data import Data
from mrcnn.config import ModelConfig
from mrcnn.models import MaskRCNN
from mrcnn.models.training.state import model_arrays, restore_model
from trackers.checkpoints.best_and_last import Checkpoints
from trackers.checkpoints.checkpoint_store import TrainingCheckpoint, disk_refusals
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.runs.tensorboard import EventWriter

ASKED, DATA, BACKEND, PLANNED, NETWORK, PROGRESS, BEST, EVENTS = (
    "asked", "data", "backend", "planned", "network", "progress", "best", "events",
)  # fmt: skip
"""Facts of a state: the configuration before the data were known, digests of the splits, the backend below Keras; the
configuration after, the network's; see `EpochEnd.progress`; the best epoch and its value; `EventWriter.position`."""


def asked_facts(config: TaskConfig, data: Data) -> dict[str, object]:
    """What must be equal for a training to go on exactly."""
    return {
        ASKED: plain(config),
        DATA: {split: part.ordered_digest for split, part in data.splits.items()},
        BACKEND: this_backend(),
    }


def this_backend() -> str:
    return keras.backend.backend()


def plain(config: TaskConfig) -> dict[str, object]:
    """The configuration as it is read back from JSON."""
    return json.loads(json.dumps(config.model_dump(mode="json")))


def differences(facts: Mapping[str, object], asked: Mapping[str, object]) -> list[str]:
    """The fields in which what a run was started with is not what is asked for, with both values.

    An older version of this project may have written the facts, with other fields.
    """
    before, now = (flattened(each[ASKED]) | {BACKEND: each[BACKEND]} for each in (facts, asked))
    told = [
        f"{name}={now.get(name, 'unknown')} (the run has {before.get(name, 'none')})"
        for name in {**now, **before}
        if name not in now or name not in before or now[name] != before[name]
    ]
    if DATA in asked:
        splits = {**facts[DATA], **asked[DATA]}
        changed = [split for split in splits if facts[DATA].get(split) != asked[DATA].get(split)]
        told += [f"the images or annotations of {', '.join(changed)}"] if changed else []
    return told


@dataclass
class TrainingCheckpointer:
    """Keeps the states of one training in its folder.

    Args:
        unfinished: held by this process.
        asked: `asked_facts` of it.
        state: from which it goes on; None begins.
    """

    unfinished: Unfinished
    asked: Mapping[str, object]
    state: TrainingCheckpoint | None = None

    @property
    def epochs_done(self) -> int:
        return 0 if self.state is None else self.state.epoch

    def model(self) -> tuple[MaskRCNN, TaskConfig]:
        """The network of the state with its weights, and the configuration with nothing left open."""
        config = TaskConfig.model_validate(self.state.facts[PLANNED])
        network = ModelConfig.model_validate(self.state.facts[NETWORK])
        model = MaskRCNN(network, seed=config.seed, dtype=config.train.precision)
        restore_model(model, self.state.arrays)
        return model, config

    def event_position(self) -> tuple[str, int] | None:
        return None if self.state is None else tuple(self.state.facts[EVENTS])

    def save(
        self, model: MaskRCNN, config: TaskConfig, ended: EpochCallback, checkpoints: Checkpoints, events: EventWriter
    ) -> None:
        """Keep all after the epoch that has ended, or before the first.

        Raises:
            NotKept: the disk is full or refuses.
        """
        facts = {
            **self.asked,
            PLANNED: plain(config),
            NETWORK: model.config.model_dump(mode="json"),
            PROGRESS: ended.progress(),
            BEST: [checkpoints.best_epoch, checkpoints.best_value],
            EVENTS: list(events.position()),
        }
        with disk_refusals(ended.epochs_done, self.unfinished.folder):
            self.unfinished.states.save(ended.epochs_done, model_arrays(model), facts, checkpoints.kept_beside())

    def begin(
        self, model: MaskRCNN, config: TaskConfig, ended: EpochCallback, checkpoints: Checkpoints, events: EventWriter
    ) -> None:
        """Take up what the state says of the epochs before; without one keep the beginning, so that a training killed
        in its first epoch goes on from the same weights. Raises `NotKept`."""
        if self.state is None:
            self.save(model, config, ended, checkpoints, events)
            return
        best_epoch, best_value = self.state.facts[BEST]
        checkpoints.go_on(self.state.folder, best_epoch, best_value)
        ended.go_on(self.state.facts[PROGRESS])
