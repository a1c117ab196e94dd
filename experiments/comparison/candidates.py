"""Find the models to compare in runs and in the registry, with the configuration of their training."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase

import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from experiments.config.resolve import check
from experiments.config.schema import LOWER_IS_BETTER, TaskConfig
from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml
from trackers.packaging.tracked_model import CONFIG, load_tracked_model
from trackers.registry.contest import Score, score_of_version
from trackers.registry.registry import CHALLENGER, CHAMPION, RECALIBRATED_IN
from trackers.runs.reader import artifact_text

FAMILIES = ("mrcnn", "unet")
"""Prefixes of the names of registered models that detect instances."""
CLASSIFIER = "classifier-"
EVALUATION = "evaluation.json"
"""Artifact of a run of `mrcnn evaluate`."""
RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})")
VERSION = re.compile(r"models:/([^/@]+)(?:/(\d+)|@(.+))")


@dataclass(frozen=True)
class ExternalEvaluation:
    """A run of `mrcnn evaluate`.

    Attributes:
        run_id: the run.
        model: title of the evaluated model.
        classes: class of the data → class of the evaluation.
        confidence: threshold of the evaluation.
    """

    run_id: str
    model: str
    classes: Mapping[str, str]
    confidence: float


@dataclass(frozen=True)
class Candidate:
    """A model to compare.

    Attributes:
        label: A, B, …, its name in tables and figures.
        spec: see `trackers.packaging.tracked_model`.
        run_id: run of the training.
        config: resolved configuration of the training.
        name, version: in the registry; None for an unregistered model.
        aliases: its aliases in the registry.
        validation: its validation score; None if it is unknown, or for an unregistered model.
        recalibrated_in: run that chose the threshold of a recalibrated version.
        evaluation: its external evaluation, if that is compared; `config` then names the evaluated data.
    """

    label: str
    spec: str
    run_id: str
    config: TaskConfig
    name: str | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()
    validation: Score | None = None
    recalibrated_in: str | None = None
    evaluation: ExternalEvaluation | None = None

    @property
    def title(self) -> str:
        """Name in messages and on the page."""
        if self.evaluation is not None:
            return f"{self.evaluation.model} in run {self.run_id[:8]}"
        return f"run {self.run_id[:8]}" if self.name is None else f"{self.name} version {self.version}"


def find_candidates(specs: Sequence[str]) -> list[Candidate]:
    """Find models by run id, runs:/<id>, models:/<name>/<version> or models:/<name>@<alias>.

    Raises:
        InputError: a model does not exist, is a classifier or occurs twice, the models have several modalities, or only
            some of them are runs of `mrcnn evaluate`.
    """
    client, found = MlflowClient(), []
    for spec in specs:
        if run := RUN.fullmatch(spec):
            found.append(_of_run(client, spec, run[1]))
        elif version := find_version(client, spec):
            found.append(_of_version(client, version, spec))
        else:
            raise InputError(
                f"--models {spec}: expected a run's id, runs:/<id>, models:/<name>/<version> or models:/<name>@<alias>"
            )
    models = [(each.run_id, each.recalibrated_in) for each in found]
    if twice := [each for each, model in zip(found, models, strict=True) if models.count(model) > 1]:
        raise InputError(f"--models: {' and '.join(each.spec for each in twice)} are the same model")
    others = [each.spec for each in found if each.evaluation is None]
    if 0 < len(others) < len(found):
        raise InputError(f"--models: {', '.join(others)}: no run of mrcnn evaluate, as the others are")
    modalities = sorted({each.config.modality for each in found})
    if len(modalities) > 1:
        raise InputError(f"--models: of {' and '.join(modalities)}; expected models of one modality")
    return _with_labels(found)


def registered_candidates(modality: str, families: Iterable[str] = FAMILIES) -> tuple[list[Candidate], list[str]]:
    """Find the registered models of a modality that can become champion, and a line for each excluded model.

    These are the models with an alias and, for each task and validation split, the best by the metric that its training
    recorded. All others are worse on the same validation images.

    Raises:
        InputError: there is no registered model of the modality.
    """
    client, found, problems, any_registered = MlflowClient(), [], [], False
    for family in families:
        name = f"{family}-{modality}"
        versions = list(client.search_model_versions(f"name = '{name}'"))
        if not versions:
            continue
        any_registered = True
        aliases = client.get_registered_model(name).aliases
        chosen = {str(version) for version in aliases.values()} | _best_of_each_validation_split(versions)
        for version in sorted(versions, key=lambda each: int(each.version)):
            if str(version.version) in chosen:
                try:
                    found.append(_of_version(client, version, f"models:/{name}/{version.version}"))
                except InputError as error:
                    problems.append(str(error))
    if not any_registered:
        expected = " or ".join(f"{family}-{modality}" for family in families)
        raise InputError(f"--modality {modality}: nothing is registered as {expected}")
    # The champion first: the others are compared with it.
    found.sort(key=lambda each: (CHAMPION not in each.aliases, CHALLENGER not in each.aliases))
    return _with_labels(found), problems


def version_scores(candidates: Sequence[Candidate]) -> dict[str, list[tuple[int, float]]]:
    """Return (version, score that its training recorded) of all versions of the registered models.

    There is a line for each model, metric and validation split with at least two versions, because other scores are not
    comparable.
    """
    client, lines = MlflowClient(), {}
    for name in dict.fromkeys(each.name for each in candidates if each.name is not None):
        found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
        for version, split, value in _recorded_scores(client.search_model_versions(f"name = '{name}'")):
            found.setdefault(split, []).append((int(version), value))
        for (task, digest, metric), points in found.items():
            if len(points) > 1:
                lines[f"{name}: {metric} on the validation split {digest[:8]} of {task}"] = sorted(points)
    return lines


def _recorded_scores(versions: Iterable[ModelVersion]) -> Iterator[tuple[str, tuple[str, str, str], float]]:
    """Yield version, (task, digest of the validation split, metric) and value of each version that has them."""
    for version in versions:
        tags = version.tags
        try:
            yield str(version.version), (tags["task"], tags["digest"], tags["metric"]), float(tags["value"])
        except (KeyError, ValueError):
            continue


def _best_of_each_validation_split(versions: Sequence[ModelVersion]) -> set[str]:
    best: dict[tuple[str, ...], tuple[float, str]] = {}
    for version, split, value in _recorded_scores(versions):
        value = -math.inf if math.isnan(value) else -value if split[2] in LOWER_IS_BETTER else value
        if split not in best or value > best[split][0]:
            best[split] = (value, version)
    return {version for _, version in best.values()}


def _with_labels(found: Sequence[Candidate]) -> list[Candidate]:
    labels = [*ascii_uppercase, *(first + second for first in ascii_uppercase for second in ascii_uppercase)]
    return [replace(each, label=label) for each, label in zip(found, labels, strict=False)]


def find_version(client: MlflowClient, spec: str) -> ModelVersion | None:
    """Find the version that models:/<name>/<version> or models:/<name>@<alias> names; None for any other `spec`.

    Raises:
        InputError: the registry has no such version.
    """
    match = VERSION.fullmatch(spec)
    if match is None:
        return None
    name, number, alias = match.groups()
    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, number)
    except MlflowException as error:
        raise InputError(f"{spec}: {str(error).splitlines()[0]}") from error


def _of_version(client: MlflowClient, version: ModelVersion, spec: str) -> Candidate:
    if version.name.startswith(CLASSIFIER):
        raise InputError(f"{spec}: a classifier, which finds no instances; expected a detection model")
    run_id = version.tags.get("run") or version.run_id
    if not run_id:
        raise InputError(f"{spec}: has no run, so its training patients are unknown")
    aliases = client.get_registered_model(version.name).aliases
    own = tuple(sorted(alias for alias, holder in aliases.items() if str(holder) == str(version.version)))
    # By number, because an alias can move during the comparison.
    fixed = f"models:/{version.name}/{version.version}"
    config = _config(client, run_id, spec, fixed)
    score = score_of_version(version, config.evaluate.metric)
    recalibrated_in = version.tags.get(RECALIBRATED_IN)
    return Candidate("", fixed, run_id, config, version.name, str(version.version), own, score, recalibrated_in)


def _of_run(client: MlflowClient, spec: str, run_id: str) -> Candidate:
    try:
        text = artifact_text(run_id, EVALUATION)
    except MlflowException as error:
        raise InputError(f"{spec}: {str(error).splitlines()[0]}") from error
    if text is not None:
        facts = json.loads(text)
        model, classes = facts["model"], facts["classes"]["of_data"]
        evaluation = ExternalEvaluation(run_id, model["title"], classes, facts["confidence"])
        return Candidate("", model["address"], run_id, _config(client, run_id, spec), evaluation=evaluation)
    versions = list(client.search_model_versions(f"run_id = '{run_id}'"))
    # A run can register a detection model and a classifier.
    for version in sorted(versions, key=lambda each: each.name.startswith(CLASSIFIER)):
        return _of_version(client, version, spec)
    return Candidate("", run_id, run_id, _config(client, run_id, spec))


def _config(client: MlflowClient, run_id: str, spec: str, packaged: str | None = None) -> TaskConfig:
    """Read the resolved configuration from the run, or from the model `packaged` if a sweep registered it."""
    try:
        client.get_run(run_id)
        text = artifact_text(run_id, CONFIG)
        content = None if text is None else read_yaml(text)
    except MlflowException as error:
        raise InputError(f"{spec}: {str(error).splitlines()[0]}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{spec}: {CONFIG} of run {run_id}: not readable as YAML") from error
    if text is None and packaged:
        with tempfile.TemporaryDirectory() as folder:
            content = load_tracked_model(packaged, task="", folder=Path(folder)).config
    if not content:
        raise InputError(f"{spec}: run {run_id} has no {CONFIG}; expected a run that trained a model")
    return check(content, f"{spec}: {CONFIG} of run {run_id}")
