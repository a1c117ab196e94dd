"""Which version of a registered model is the champion, and why."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mrcnn.config import PRETRAINED
from trackers.registry.contest import CHOSEN_ON, VALIDATION, Score, wins
from trackers.registry.model_card import LONGEST, model_card, pretrained_card
from trackers.registry.registry_lock import TurnLost, registry_lock
from trackers.runs.address import hide_credentials
from trackers.runs.reader import RunRecord, read_run

CHAMPION = "champion"
CHALLENGER = "challenger"
DESCRIPTION = (
    "One version for each training. The card of a version has its data, its results with 95 % intervals, and its "
    "limits. `champion` is the best version on the same validation images, `champion-<task>` the best one of a task, "
    "`challenger` the newest one that did not win. **Research use only: not a medical device.**"
)
"""Description of a registered model."""
OF_PRETRAINED = (
    "Initial weights for `--weights`, trained on phantoms by `mrcnn pretrain`. **Research use only: not a model for "
    "predictions.**"
)
ENTERING = "entering"
"""Tag of a version, with the id of its run, until it has its card and the aliases that it has earned."""
RUN, BEFORE = "run", "before"
"""Tags of a version: its run; as JSON, of each alias that it was given the version that had it, or null."""
MOST_TURNS = 3
"""Turns that a process takes for one version, where others take them over."""


@dataclass(frozen=True)
class Registered:
    """A model that was entered in the registry.

    Attributes:
        name: of the registered model.
        version: of this entry, counted from 1.
        alias: `champion` or `challenger`.
        previous: version that was champion before, None if there was none.
        reason: why it has that alias, in one line.
        task_champion: whether `champion-<task>` moved to it too.
        before: of each alias that moved to it the version that had it, None if none had.
        first: whether the registered model was made for it.
    """

    name: str
    version: str
    alias: str
    previous: str | None
    reason: str
    task_champion: bool
    before: Mapping[str, str | None] = field(default_factory=dict)
    first: bool = False


def register(
    model_uri: str,
    *,
    name: str,
    metric: str,
    value: float,
    digest: str,
    task: str,
    run_id: str,
    higher_is_better: bool = True,
    useless: str | None = None,
) -> Registered:
    """Enters the model at `model_uri` as a new version of `name` and moves the aliases that it has earned.

    `champion` moves to it if there is none, or if it is strictly better than the champion by the same metric on the
    same validation data (`trackers.registry.contest`); otherwise it becomes `challenger`. `champion-<task>` follows the
    same rule among its own holders, so that tasks of one modality, whose data differ, have a champion each. The
    version's description is a model card. From the look at the champion to the move of the aliases no other process
    registers under `name`. Whatever is raised meanwhile, Ctrl-C included, the registry is as it was;
    `rollback_registration` makes it so later.

    A run that has not finished has one version: where its process was killed, or the store went away, the same call of
    the same run later completes the version that is there; of those that a repeated request made one stays.

    Args:
        model_uri: from `trackers.packaging.packaged.log_packaged_model`.
        name: of the registered model, `mrcnn-<modality>`; made if it is not there.
        metric: by which versions are compared.
        value: reached on the validation data. One that is not a number never wins, nor one of 0 where higher is better.
        digest: of the validation data.
        task: what it was trained for.
        run_id: the run that made it.
        higher_is_better: False for a distance or a loss.
        useless: why the model never wins, whatever its value; None: it may.
    """
    client, score = MlflowClient(), Score(metric, value, digest)
    if useless is None and value <= 0 and higher_is_better:
        useless = f"{metric} is {value:g}"
    # Read before the turn begins: others wait meanwhile.
    recorded = read_run(run_id)
    turn = 1
    while True:
        try:
            return _register(client, recorded, model_uri, name, score, task, higher_is_better, useless)
        except TurnLost:
            if turn == MOST_TURNS:
                raise
            turn += 1


def _register(
    client: MlflowClient,
    recorded: RunRecord,
    model_uri: str,
    name: str,
    score: Score,
    task: str,
    higher_is_better: bool,
    useless: str | None,
) -> Registered:
    """Do `register` in one turn. Raises `TurnLost`: the next turn completes what this one began."""
    run_id = recorded.run_id
    with registry_lock(name) as check:
        aliases = _aliases(client, name)
        begun = _begun(client, name, run_id)
        before_it = _before(client, name, begun, aliases)
        # What was begun is no rival of itself, but of whoever had the alias before it.
        holders = {alias: before_it.get(alias) if held in begun else held for alias, held in aliases.items()}
        holder, task_holder = holders.get(CHAMPION), holders.get(task_alias(task))
        won, reason = wins(client, name, holder, score, higher_is_better, useless)
        won_task, task_reason = wins(client, name, task_holder, score, higher_is_better, useless)
        tags = {"metric": score.metric, "value": repr(float(score.value)), "digest": score.digest, "task": task}
        tags |= {CHOSEN_ON: VALIDATION, RUN: run_id, "reason": reason, "task_reason": task_reason}
        alias = CHAMPION if won else CHALLENGER
        earned = [alias, task_alias(task)] if won_task else [alias]
        before = {each: holders.get(each) for each in earned}
        tags[BEFORE] = json.dumps(before_it | before)
        first = not _is_there(client, name)
        try:
            if begun:
                # One that an alias points at already stays rather than another.
                version = next((held for held in aliases.values() if held in begun), begun[0])
                for key, text in {**tags, ENTERING: run_id}.items():
                    client.set_model_version_tag(name, version, key, text)
            else:
                # MLflow tells on stderr what it does; what goes wrong is raised.
                with contextlib.redirect_stderr(io.StringIO()):
                    entered = mlflow.register_model(model_uri, name, tags={**tags, ENTERING: run_id})
                version = str(entered.version)
            for double in _begun(client, name, run_id):
                if double != version:
                    check()
                    client.delete_model_version(name, double)
            # Before any alias points at it, so that nobody meets a model that does not say what it is not for.
            competitors = _competitors(client, name, score)
            client.update_model_version(name, version, model_card(recorded, name, version, score.metric, competitors))
            if not client.get_registered_model(name).description:
                client.update_registered_model(name, DESCRIPTION)
            for each in earned:
                check()
                client.set_registered_model_alias(name, each, version)
            for each, held in aliases.items():
                if held in begun and each not in earned:
                    check()
                    _give_back(client, name, each, holders[each])
            client.delete_model_version_tag(name, version, ENTERING)
        except TurnLost:
            raise
        except BaseException as error:
            try:
                check()
                _withdraw(client, name, _begun(client, name, run_id), before_it | before, first)
            except Exception as second:  # noqa: BLE001 the store may be what failed in the first place
                error.add_note(hide_credentials(f"What was entered in the registry could not be withdrawn: {second}"))
            raise
    return Registered(name, version, alias, holder, reason, won_task, before_it | before, first)


def _competitors(client: MlflowClient, name: str, score: Score) -> int:
    """Count the versions that were chosen by the same metric on the same validation data."""
    versions = client.search_model_versions(f"name = '{name}'")
    return sum(
        (each.tags.get("metric"), each.tags.get("digest")) == (score.metric, score.digest)
        and each.tags.get(CHOSEN_ON) == VALIDATION
        for each in versions
    )


def rollback_registration(entered: Registered) -> None:
    """Delete a registered version, and return its aliases to the versions that had them before."""
    with registry_lock(entered.name):
        _withdraw(MlflowClient(), entered.name, {entered.version}, entered.before, entered.first)


def _withdraw(
    client: MlflowClient, name: str, versions: Collection[str], before: Mapping[str, str | None], first: bool
) -> None:
    for alias, holder in _aliases(client, name).items():
        # Others have moved meanwhile to versions of others.
        if holder in versions:
            _give_back(client, name, alias, before.get(alias))
    for version in versions:
        client.delete_model_version(name, version)
    if first and _is_there(client, name) and not client.search_model_versions(f"name='{name}'"):
        client.delete_registered_model(name)


def _give_back(client: MlflowClient, name: str, alias: str, holder: str | None) -> None:
    """Move an alias to the version that had it before; remove it if none had."""
    if holder is None:
        client.delete_registered_model_alias(name, alias)
    else:
        client.set_registered_model_alias(name, alias, holder)


def _before(client: MlflowClient, name: str, begun: Sequence[str], aliases: Mapping[str, str]) -> dict[str, str | None]:
    """Find for each alias of the versions `begun` the version that had it before and still exists."""
    found: dict[str, str | None] = {}
    for version in begun:
        noted = json.loads(client.get_model_version(name, version).tags.get(BEFORE, "{}"))
        found |= {alias: held for alias, held in noted.items() if aliases.get(alias) == version}
    there = (
        {str(each.version) for each in client.search_model_versions(f"name = '{name}'")} if any(found.values()) else ()
    )
    return {alias: held if held in there else None for alias, held in found.items()}


def _is_there(client: MlflowClient, name: str) -> bool:
    return bool(client.search_registered_models(f"name='{name}'"))


def _begun(client: MlflowClient, name: str, run_id: str) -> list[str]:
    """List the versions that `run_id` has not finished registering, oldest first.

    They are all versions of the run if the run has not finished itself.
    """
    tags = [ENTERING] if client.get_run(run_id).info.status == "FINISHED" else [ENTERING, RUN]
    found = [
        each for tag in tags for each in client.search_model_versions(f"name = '{name}' and tags.{tag} = '{run_id}'")
    ]
    return sorted({str(each.version) for each in found}, key=int)


RECALIBRATED_FROM, RECALIBRATED_IN = "recalibrated_from", "recalibrated_in"
"""Tags of a version with a threshold of another site: the version it was made of, and the run of the evaluation."""


def register_recalibrated(
    model_uri: str, name: str, source: str, *, training_run: str, run_id: str, digest: str, note: str
) -> str:
    """Register a version of `name` that differs from the version `source` in its threshold; no alias moves.

    The run `run_id` chose the threshold on images with `digest`; `note` says what was changed and on what data.

    Returns:
        The number of the version.
    """
    client = MlflowClient()
    tags = {RECALIBRATED_FROM: source, RECALIBRATED_IN: run_id, "calibration_digest": digest, RUN: training_run}
    with registry_lock(name), contextlib.redirect_stderr(io.StringIO()):
        version = str(mlflow.register_model(model_uri, name, tags=tags).version)
        card = client.get_model_version(name, source).description or ""
        client.update_model_version(name, version, f"**Version {source}, recalibrated:** {note}.\n\n{card}"[:LONGEST])
    return version


def register_pretrained(folder_uri: str, modality: str, run_id: str, metric: str, value: float) -> tuple[str, str]:
    """Register initial weights that the run `run_id` trained on phantoms, up to a validation score; no alias moves.

    Args:
        folder_uri: of the artifact folder with the `.keras` file, not relative to a run.
        modality: for the name `pretrained-<modality>`.
        run_id: the run that trained them.
        metric: name of the score.
        value: the score.

    Returns:
        Name and number of the version.
    """
    client, name, run = MlflowClient(), f"{PRETRAINED}-{modality}", read_run(run_id)
    with registry_lock(name):
        if not _is_there(client, name):
            client.create_registered_model(name, description=OF_PRETRAINED)
        version = str(client.create_model_version(name, folder_uri, run_id, tags={RUN: run_id}).version)
        try:
            client.update_model_version(name, version, pretrained_card(run, name, version, metric, value))
        except BaseException:
            client.delete_model_version(name, version)
            raise
    return name, version


def delete_version(name: str, version: str) -> None:
    """Delete a version that has no alias."""
    with registry_lock(name):
        MlflowClient().delete_model_version(name, version)


def task_alias(task: str) -> str:
    """`champion-<task>`, in the characters that an alias may have."""
    return f"{CHAMPION}-" + re.sub(r"[^\w-]", "-", task)


@dataclass(frozen=True)
class Move:
    """An alias that a comparison would give to another version.

    Attributes:
        alias: `champion` or `champion-<task>`.
        holder: the version that had it when the models were compared, None if none had.
        version: that it should go to.
        reason: why, in one line; kept as a tag of the version.
    """

    alias: str
    holder: str | None
    version: str
    reason: str


def promote(name: str, moves: Sequence[Move], run_id: str) -> list[str]:
    """Move aliases of the registered model `name`, in order, each only from the holder that the comparison saw.

    All moves happen under one `registry_lock`. The version that loses `champion` becomes `challenger`.

    Returns:
        A line for each move that was not made because another version has the alias now.
    """
    client, refused = MlflowClient(), []
    with registry_lock(name) as check:
        aliases = _aliases(client, name)
        for move in moves:
            if aliases.get(move.alias) != move.holder:
                refused.append(
                    f"{name} {move.alias}: not moved to version {move.version}, for it went from version {move.holder} "
                    f"to {aliases.get(move.alias)} during the comparison; compare again"
                )
                continue
            for key, value in (("compared_in", run_id), (f"{move.alias}_reason", move.reason)):
                client.set_model_version_tag(name, move.version, key, value)
            check()
            client.set_registered_model_alias(name, move.alias, move.version)
            if move.alias == CHAMPION and move.holder is not None:
                client.set_registered_model_alias(name, CHALLENGER, move.holder)
            elif move.alias == CHAMPION and aliases.get(CHALLENGER) == move.version:
                client.delete_registered_model_alias(name, CHALLENGER)
    return refused


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Version by alias; none for a model that is not registered yet."""
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: str(version) for alias, version in aliases.items()}
