"""Which version of a registered model is the champion, and why."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trackers.address import hide_credentials
from trackers.model_card import model_card
from trackers.recorded import read_run
from trackers.registry_lock import registry_lock

CHAMPION = "champion"
CHALLENGER = "challenger"
ENTERING = "entering"
"""Tag of a version, with the id of its run, until it has its card and the aliases that it has earned."""


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


@dataclass(frozen=True)
class Score:
    """What a version reached, as its tags `metric`, `value` and `digest` hold it."""

    metric: str
    value: float
    digest: str


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
) -> Registered:
    """Enters the model at `model_uri` as a new version of `name` and moves the aliases that it has earned.

    `champion` moves to it if there is none, or if it is strictly better than the champion by the same metric on the
    same test data; otherwise it becomes `challenger`. `champion-<task>` follows the same rule among its own holders, so
    that tasks of one modality, whose test data differ, have a champion each. The version's description is a model card.
    From the look at the champion to the move of the aliases no other process registers under `name`. Whatever is raised
    meanwhile, Ctrl-C included, the registry is as it was; `withdraw` makes it so later.

    Where the store itself went away in the middle, the same call of the same run later goes on with the version that it
    then began; of those that a repeated request made one stays.

    Args:
        model_uri: from `trackers.packaged.log_packaged_model`.
        name: of the registered model, `mrcnn-<modality>`; made if it is not there.
        metric: by which versions are compared.
        value: reached on the test data. One that is not a number never wins.
        digest: of the test data.
        task: what it was trained for.
        run_id: the run that made it.
        higher_is_better: False for a distance or a loss.
    """
    client, score = MlflowClient(), Score(metric, value, digest)
    # Read before the turn begins: others wait meanwhile.
    recorded = read_run(run_id)
    with registry_lock(name):
        aliases = _aliases(client, name)
        begun = _begun(client, name, run_id)
        # What was begun is no rival of itself.
        holder, task_holder = (
            None if aliases.get(alias) in begun else aliases.get(alias) for alias in (CHAMPION, task_alias(task))
        )
        wins, reason = _wins(client, name, holder, score, higher_is_better)
        wins_task, task_reason = _wins(client, name, task_holder, score, higher_is_better)
        tags = {"metric": metric, "value": repr(float(value)), "digest": digest, "task": task, "run": run_id}
        tags |= {"reason": reason, "task_reason": task_reason}
        alias = CHAMPION if wins else CHALLENGER
        earned = [alias, task_alias(task)] if wins_task else [alias]
        before = {each: None if aliases.get(each) in begun else aliases.get(each) for each in earned}
        first = not _is_there(client, name)
        try:
            if begun:
                # One that an alias points at already stays rather than another.
                version = next((held for held in aliases.values() if held in begun), begun[0])
                for key, text in tags.items():
                    client.set_model_version_tag(name, version, key, text)
            else:
                # MLflow tells on stderr what it does; what goes wrong is raised.
                with contextlib.redirect_stderr(io.StringIO()):
                    entered = mlflow.register_model(model_uri, name, tags={**tags, ENTERING: run_id})
                version = str(entered.version)
            for double in _begun(client, name, run_id):
                if double != version:
                    client.delete_model_version(name, double)
            # Before any alias points at it, so that nobody meets a model that does not say what it is not for.
            client.update_model_version(name, version, model_card(recorded, name, version))
            for each in earned:
                client.set_registered_model_alias(name, each, version)
            client.delete_model_version_tag(name, version, ENTERING)
        except BaseException as error:
            try:
                _withdraw(client, name, _begun(client, name, run_id), before, first)
            except Exception as second:  # noqa: BLE001 the store may be what failed in the first place
                error.add_note(hide_credentials(f"What was entered in the registry could not be withdrawn: {second}"))
            raise
    return Registered(name, version, alias, holder, reason, wins_task, before, first)


def withdraw(entered: Registered) -> None:
    """Takes a version out of the registry again, and gives its aliases back to those that had them before."""
    with registry_lock(entered.name):
        _withdraw(MlflowClient(), entered.name, {entered.version}, entered.before, entered.first)


def _withdraw(
    client: MlflowClient, name: str, versions: Collection[str], before: Mapping[str, str | None], first: bool
) -> None:
    for alias, holder in _aliases(client, name).items():
        # Others have moved meanwhile to versions of others.
        if holder in versions and before.get(alias) is not None:
            client.set_registered_model_alias(name, alias, before[alias])
        elif holder in versions:
            client.delete_registered_model_alias(name, alias)
    for version in versions:
        client.delete_model_version(name, version)
    if first and _is_there(client, name) and not client.search_model_versions(f"name='{name}'"):
        client.delete_registered_model(name)


def _is_there(client: MlflowClient, name: str) -> bool:
    return bool(client.search_registered_models(f"name='{name}'"))


def _begun(client: MlflowClient, name: str, run_id: str) -> list[str]:
    """Versions that `run_id` began to enter and did not finish, the first one first."""
    found = client.search_model_versions(f"name = '{name}' and tags.{ENTERING} = '{run_id}'")
    return sorted((str(each.version) for each in found), key=int)


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
    """Moves aliases of the registered model `name`, each only from the holder that the comparison saw.

    All of it happens in one turn (`registry_lock`). Who loses `champion` becomes `challenger`.

    Args:
        run_id: of the comparison.

    Returns:
        For each of `moves` that was not made the reason in a line: another version has got the alias meanwhile.
    """
    client, refused = MlflowClient(), []
    with registry_lock(name):
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


def _wins(
    client: MlflowClient, name: str, holder: str | None, score: Score, higher_is_better: bool
) -> tuple[bool, str]:
    """Whether `score` takes the alias from the version `holder`, and why."""
    if math.isnan(score.value):
        return False, f"{score.metric} is not a number"
    if holder is None:
        return True, "there was no champion"
    tags = client.get_model_version(name, holder).tags
    try:
        held = Score(tags["metric"], float(tags["value"]), tags["digest"])
    except (KeyError, ValueError):
        return False, f"version {holder}, the champion, has no tags metric, value and digest to compare with"
    if held.digest != score.digest:
        return False, (
            f"not comparable: tested on data {score.digest[:12]}, the champion, version {holder}, on {held.digest[:12]}"
        )
    if held.metric != score.metric:
        return False, f"not comparable: judged by {score.metric}, the champion, version {holder}, by {held.metric}"
    better = score.value > held.value if higher_is_better else score.value < held.value
    words = "better than" if better else "not better than"
    return better, f"{score.metric} {score.value:.4g} is {words} {held.value:.4g} of version {holder}"
