"""Create pruners, among them Hyperband for trials that can be interrupted and resume as another trial."""

from __future__ import annotations

import copy

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial

INTERRUPTED = "interrupted"
"""User attribute of a trial: whether it is retried."""
RETRY_ATTRIBUTES = ("failed_trial", "retry_history", "fixed_params")
"""System attributes that a retry needs: those of `RetryHeartbeatStaleTrialCallback`, and given parameters."""
RUNG = "completed_rung_"
"""Prefix of the system attributes that `HyperbandPruner` writes."""
NO_BRACKET = -1


def first_attempt(trial: FrozenTrial) -> int:
    """Return the number of the trial, or for a retry that of its first attempt."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def earlier_attempts(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that a retry repeats."""
    return RetryHeartbeatStaleTrialCallback.retry_history(trial)


class Brackets(optuna.pruners.HyperbandPruner):
    """Hyperband (Li et al. 2018) in which a retry replaces its first attempt.

    A retry that resumes from a checkpoint has the notes of the pruner of earlier epochs. Together with the interrupted
    attempt it would compete with itself, and by its own number it could be in another bracket. Optuna has no public way
    to assign a bracket.
    """

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if trial.user_attrs.get(INTERRUPTED):
            return NO_BRACKET
        first = copy.copy(trial)
        first.number = first_attempt(trial)
        return super()._get_bracket_id(study, first)


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Create a pruner. Hyperband's brackets start at the first epoch and at later ones (Li et al. 2018).

    A quarter of the trials continues at each rung: with the usual third, a dozen trials of a dozen epochs save little.
    """
    if name == "hyperband":
        return Brackets(min_resource=1, max_resource=epochs, reduction_factor=4)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1, n_min_trials=3)
    return optuna.pruners.NopPruner()
