"""Train, evaluate, predict and compare: `experiments.api` has the functions behind the commands.

Names are imported at their first use, because a command that only shows its help needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.api import compare, evaluate, load, sweep, train

__all__ = ["compare", "evaluate", "load", "sweep", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'experiments' has no attribute {name!r}")
    return getattr(import_module("experiments.api"), name)
