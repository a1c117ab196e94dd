"""Keep the libraries' start-up talk out of a person's terminal. Import it before any of them."""

from __future__ import annotations

import logging
import os
import warnings


def hush() -> None:
    """Quieten TensorFlow, MLflow, Alembic and their neighbours; a variable that is already set stays as it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in ("alembic", "mlflow", "absl", "jax", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
