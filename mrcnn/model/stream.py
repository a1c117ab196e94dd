"""Batches for `fit`, across epochs without a pause between them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count


def stream(loader, first_epoch: int = 0, skipped: int = 0) -> Iterator[tuple[dict]]:
    """Endless batches of a `Loader`, epoch by epoch; pass `steps_per_epoch=len(loader)` to `fit`.

    The next epoch's first batches are made while the last one is validated. `skipped` batches at the beginning are left
    out, and not made.
    """
    whole, first = divmod(skipped, len(loader))
    for epoch in count(first_epoch + whole):
        for batch in loader.epoch(epoch, first if epoch == first_epoch + whole else 0):
            yield (batch,)
