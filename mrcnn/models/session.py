"""Room for the next model in the same process. It stands apart from `mrcnn.backend`, which every model needs."""

from __future__ import annotations

import keras


def clear_session() -> None:
    """Gives back what models that nobody holds any more left behind: graphs, compiled steps, arrays.

    Keras's global state goes with it, the random seed included.
    """
    keras.utils.clear_session(free_memory=True)
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
