"""Find the models to compare in runs and in the registry, with the configuration of their training."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase

import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from experiments.config.schema import LOWER_IS_BETTER, TaskConfig
from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml
from trackers.packaging.tracked_model import CONFIG, load_tracked_model
from trackers.registry.registry import CHALLENGER, CHAMPION

FAMILIES = ("mrcnn", "unet")
"""Prefixes of the names of registered models that detect instances."""
CLASSIFIER = "classifier-"
RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})")
VERSION = re.compile(r"models:/([^/@]+)(?:/(\d+)|@(.+))")


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
    """

    label: str
    spec: str
    run_id: str
    config: TaskConfig
    name: str | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name in messages and on the page."""
        return f"run {self.run_id[:8]}" if self.name is None else f"{self.name} version {self.version}"


def find_candidates(specs: Sequence[str]) -> list[Candidate]:
    """Find models by run id, runs:/<id>, models:/<name>/<version> or models:/<name>@<alias>.

    Raises:
        InputError: a model does not exist, is a classifier or occurs twice, or the models have several modalities.
    """
    client, found = MlflowClient(), []
    for spec in specs:
        run, version = RUN.fullmatch(spec), VERSION.fullmatch(spec)
        if run:
            found.append(_of_run(client, spec, run[1]))
        elif version:
            found.append(_of_version(client, _version(client, spec, *version.groups()), spec))
        else:
            raise InputError(
                f"--models {spec}: expected a run's id, runs:/<id>, models:/<name>/<version> or models:/<name>@<alias>"
            )
    runs = [each.run_id for each in found]
    if twice := [each for each in found if runs.count(each.run_id) > 1]:
        raise InputError(f"--models: {' and '.join(each.spec for each in twice)} are the same model")
    modalities = sorted({each.config.modality for each in found})
    if len(modalities) > 1:
        raise InputError(f"--models: of {' and '.join(modalities)}; expected models of one modality")
    return _with_labels(found)


def registered_candidates(modality: str, families: Iterable[str] = FAMILIES) -> tuple[list[Candidate], list[str]]:
    """Find the registered models of a modality that can become champion, and a line for each excluded model.

    These are the models with an alias and, for each task and test set, the best by the metric that its training
    recorded. All others are worse on the same images.

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
        chosen = {str(version) for version in aliases.values()} | _best_of_each_test_set(versions)
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

    There is a line for each model, metric and test set with at least two versions, because other scores are not
    comparable.
    """
    client, lines = MlflowClient(), {}
    for name in dict.fromkeys(each.name for each in candidates if each.name is not None):
        found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
        for version, test_set, value in _recorded_scores(client.search_model_versions(f"name = '{name}'")):
            found.setdefault(test_set, []).append((int(version), value))
        for (task, digest, metric), points in found.items():
            if len(points) > 1:
                lines[f"{name}: {metric} on the test set {digest[:8]} of {task}"] = sorted(points)
    return lines


def _recorded_scores(versions: Iterable[ModelVersion]) -> Iterator[tuple[str, tuple[str, str, str], float]]:
    """Yield version, (task, digest of the test set, metric) and value of each version that has them."""
    for version in versions:
        tags = version.tags
        try:
            yield str(version.version), (tags["task"], tags["digest"], tags["metric"]), float(tags["value"])
        except (KeyError, ValueError):
            continue


def _best_of_each_test_set(versions: Sequence[ModelVersion]) -> set[str]:
    best: dict[tuple[str, ...], tuple[float, str]] = {}
    for version, test_set, value in _recorded_scores(versions):
        value = -math.inf if math.isnan(value) else -value if test_set[2] in LOWER_IS_BETTER else value
        if test_set not in best or value > best[test_set][0]:
            best[test_set] = (value, version)
    return {version for _, version in best.values()}


def _with_labels(found: Sequence[Candidate]) -> list[Candidate]:
    labels = [*ascii_uppercase, *(first + second for first in ascii_uppercase for second in ascii_uppercase)]
    return [replace(each, label=label) for each, label in zip(found, labels, strict=False)]


def _version(client: MlflowClient, spec: str, name: str, number: str, alias: str | None) -> ModelVersion:
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
    return Candidate("", fixed, run_id, config, version.name, str(version.version), own)


def _of_run(client: MlflowClient, spec: str, run_id: str) -> Candidate:
    versions = list(client.search_model_versions(f"run_id = '{run_id}'"))
    # A run can register a detection model and a classifier.
    for version in sorted(versions, key=lambda each: each.name.startswith(CLASSIFIER)):
        return _of_version(client, version, spec)
    return Candidate("", run_id, run_id, _config(client, run_id, spec))


def _config(client: MlflowClient, run_id: str, spec: str, packaged: str | None = None) -> TaskConfig:
    """Read the resolved configuration from the run, or from the model `packaged` if a sweep registered it."""
    try:
        client.get_run(run_id)
        present = {each.path for each in client.list_artifacts(run_id)}
    except MlflowException as error:
        raise InputError(f"{spec}: {str(error).splitlines()[0]}") from error
    with tempfile.TemporaryDirectory() as folder:
        if CONFIG in present:
            path = Path(download_artifacts(artifact_uri=f"runs:/{run_id}/{CONFIG}", dst_path=folder))
            try:
                content = read_yaml(path.read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise InputError(f"{spec}: {CONFIG} of run {run_id}: not readable as YAML") from error
        else:
            content = packaged and load_tracked_model(packaged, task="", folder=Path(folder)).config
    if not content:
        raise InputError(f"{spec}: run {run_id} has no {CONFIG}; expected a run that trained a model")
    try:
        return TaskConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{spec}: {CONFIG} of run {run_id}: {field}: {first['msg']}") from error
