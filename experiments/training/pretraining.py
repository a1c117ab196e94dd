"""Train a network on phantoms, and register it as the initial weights of trainings on real images."""

from __future__ import annotations

import mlflow

from experiments.terminal import warn
from experiments.training.trainer import Trainer
from mrcnn.config import PRETRAINED
from trackers.registry.registry import delete_version, register_pretrained


class Pretrainer(Trainer):
    """Train on phantoms, without a test, a report or a champion."""

    kind, tag = "pretraining", PRETRAINED

    def evaluate(self) -> None:
        """Do nothing: there is no test split, and the score on phantoms says nothing about patients."""

    def register(self) -> None:
        """Register the network of the best epoch as a version of `pretrained-<modality>`.

        Raises:
            ServerAway: the tracking server does not answer, see `Run.require_server`.
        """
        run, metric, score = self.run, self.config.evaluate.metric, self.best_value or 0.0
        run.require_server("the weights are not registered, which `--resume auto` does later")
        self.model.save(file := self.folder / f"{PRETRAINED}.keras")
        run.artifact(file, PRETRAINED)
        folder = mlflow.get_artifact_uri(PRETRAINED)
        name, version = register_pretrained(folder, self.config.modality, run.id, metric, score)
        run.unless_finished(lambda: delete_version(name, version))
        if score == 0:
            warn(
                self.console,
                f"{metric} is 0 on validation phantoms; --budget 2h allows a longer pretraining",
            )
        self.console.print(
            f"Registered {name} version {version}: validation {metric} {score:.3f} on phantoms. To start from it:\n"
            f"mrcnn train --dataset my-images --weights models:/{name}/{version}",
            markup=False,
        )
