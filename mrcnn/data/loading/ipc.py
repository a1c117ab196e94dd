"""Batches through a pipe between a loader and its worker processes."""

from __future__ import annotations

import pickle
from typing import BinaryIO

import numpy as np

from mrcnn.data.transforms.encoding import Batch


def send(stream: BinaryIO, message: Batch | Exception) -> None:
    """Writes a batch, its arrays as plain bytes, or the error that stands in its place."""
    if isinstance(message, Exception):
        pickle.dump(message, stream)
    else:
        pickle.dump([(name, array.dtype.str, array.shape) for name, array in message.items()], stream)
        for array in message.values():
            stream.write(array.reshape(-1).view(np.uint8))
    stream.flush()


def receive(stream: BinaryIO) -> Batch | Exception:
    """Reads what `send` wrote. Raises `EOFError` or `pickle.UnpicklingError` where the sender is gone."""
    header = pickle.load(stream)
    if isinstance(header, Exception):
        return header
    batch = {name: np.empty(shape, dtype) for name, dtype, shape in header}
    for array in batch.values():
        if stream.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
            raise EOFError
    return batch
