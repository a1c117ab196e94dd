"""Facts of a checkpoint by which an interrupted training resumes exactly, and the differences that prevent it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from experiments.config.overrides import flattened
from experiments.config.schema import TaskConfig
from experiments.training.callbacks import EVENTS, PROGRESS, RANDOM, TrainingState
from experiments.training.training_data import Data
from mrcnn.config import ModelConfig
from mrcnn.models import MaskRCNN
from mrcnn.models.training.state import restore_random_states
from trackers.checkpoints.checkpoint_store import TrainingCheckpoint
from trackers.runs.tensorboard import EventWriter

ASKED, DATA, BACKEND, PLANNED, NETWORK = "asked", "data", "backend", "planned", "network"
"""Facts: the configuration before planning, digests of the splits, the Keras backend; the configuration after planning,
and that of the network."""


def requested_facts(config: TaskConfig, data: Data | None = None) -> dict[str, Any]:
    """Return the facts that must be equal for a training to resume exactly; without `data` those of the options."""
    facts = {ASKED: plain(config), BACKEND: keras.backend.backend()}
    if data is not None:
        facts[DATA] = {split: part.ordered_digest for split, part in data.splits.items()}
    return facts


def plain(config: TaskConfig) -> dict[str, Any]:
    """Return the configuration as it is read back from JSON."""
    return json.loads(json.dumps(config.model_dump(mode="json")))


def differences(facts: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """List the fields in which a checkpoint differs from the requested training, with both values.

    Another version of this project may have written the facts, with other fields.
    """
    before, now = (flattened(each[ASKED]) | {BACKEND: each[BACKEND]} for each in (facts, requested))
    found = [
        f"{name}={now.get(name, 'unknown')} (the run has {before.get(name, 'none')})"
        for name in {**now, **before}
        if name not in now or name not in before or now[name] != before[name]
    ]
    if DATA in requested:
        splits = {**facts[DATA], **requested[DATA]}
        changed = [split for split in splits if facts[DATA].get(split) != requested[DATA].get(split)]
        found += [f"the images or annotations of {', '.join(changed)}"] if changed else []
    return found


@dataclass(frozen=True)
class ResumableTraining:
    """Files of a training from which another process may resume it.

    Attributes:
        folder: holds the checkpoints and events, and has the name of the run.
        requested: `requested_facts` of the training.
        checkpoint: the one to resume from; None: a new training, or a group of trainings.
    """

    folder: Path
    data: Data
    requested: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: TrainingCheckpoint | None = None

    @property
    def epochs_done(self) -> int:
        return 0 if self.checkpoint is None else self.checkpoint.epoch

    def state(self, metric: str, higher_is_better: bool) -> TrainingState:
        """Return the state at the checkpoint, or that of a new training."""
        if self.checkpoint is None:
            return TrainingState(metric, higher_is_better)
        return TrainingState(**self.checkpoint.facts[PROGRESS])

    def events(self) -> EventWriter:
        """Return the writer of events, at its position at the checkpoint."""
        return EventWriter(
            self.folder / "tensorboard", None if self.checkpoint is None else self.checkpoint.facts[EVENTS]
        )

    def model(self) -> tuple[MaskRCNN, TaskConfig]:
        """Build the model of the checkpoint with its weights; returns it and the configuration after planning."""
        assert self.checkpoint is not None
        config = TaskConfig.model_validate(self.checkpoint.facts[PLANNED])
        network = ModelConfig.model_validate(self.checkpoint.facts[NETWORK])
        model = MaskRCNN(network, seed=config.seed, dtype=config.train.precision)
        model.load_weights(self.checkpoint.model)
        restore_random_states(model, self.checkpoint.facts[RANDOM])
        return model, config

    def restore_optimizer(self, model: keras.Model) -> None:
        """Restore the optimizer at the checkpoint into the compiled model, which has the weights already."""
        assert self.checkpoint is not None
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.checkpoint.model)
