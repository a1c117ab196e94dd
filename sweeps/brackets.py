"""What ends trainings early: pruners, and Hyperband for trials that may be interrupted and go on as another trial."""

from __future__ import annotations

import copy

import optuna
from optuna.trial import FrozenTrial

INTERRUPTED = "interrupted"
"""User attribute of a trial: whether it is to be tried again."""
FAILED_TRIAL, RETRY_HISTORY = "failed_trial", "retry_history"
"""System attributes of a retry, which Optuna's callback for retries writes: the numbers of the first attempt and of all
before."""
RUNG = "completed_rung_"
"""How the names of those begin that its Hyperband writes."""
NO_BRACKET = -1


class Brackets(optuna.pruners.HyperbandPruner):
    """Hyperband (Li et al. 2018), where a retry stands in its first attempt's place, which competes no more.

    A retry that goes on from a checkpoint carries what the pruner noted of the epochs before; counted with the
    interrupted attempt too it would compete with itself, and by its own number it might be in another bracket.
    """

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if trial.user_attrs.get(INTERRUPTED):
            return NO_BRACKET
        first = copy.copy(trial)
        first.number = trial.system_attrs.get(FAILED_TRIAL, trial.number)
        return super()._get_bracket_id(study, first)


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """What ends a training early. Hyperband's brackets start at the first epoch and at later ones (Li et al. 2018).

    A quarter goes on at each of its steps: with the usual third a dozen trials of a dozen epochs save too little.
    """
    if name == "hyperband":
        return Brackets(min_resource=1, max_resource=epochs, reduction_factor=4)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1, n_min_trials=3)
    return optuna.pruners.NopPruner()
