"""Giving a model's layers the weights that a file offers them, and saying what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from mrcnn.errors import InputError

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Offer:
    """Values for one layer of ours, in the order of its weights, and the layers of the file that they come from."""

    values: Sequence[np.ndarray]
    origins: tuple[str, ...]


@dataclass(frozen=True)
class SkippedWeight:
    """A layer of ours that kept its values: its shapes, and those that the file had for it (None: nothing)."""

    layer: str
    expected: Shapes
    found: Shapes | None
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightReport:
    """What of a weight file went where.

    Attributes:
        source: the file, or what stands for it.
        loaded: layers that have the file's values now.
        left_out: layers that do not.
        unused: layers of the file that no layer of ours takes.
        notes: what else a person should know, a sentence each.
    """

    source: str
    loaded: tuple[str, ...] = ()
    left_out: tuple[SkippedWeight, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self, *, every_layer: bool = False) -> str:
        """All of it, readable: a line for each layer that did not fit; with `every_layer` also those that did."""
        total = len(self.loaded) + len(self.left_out)
        lines = [f"Weights from {self.source}" + (f": {len(self.loaded)} of {total} layers" if total else "")]
        lines += [f"  {note}" for note in self.notes]
        lines += [
            f"  {left.layer} {_written(left.expected)}: the file's {', '.join(left.origins)} has {_written(left.found)}"
            for left in self.left_out
            if left.found is not None
        ]
        missing = [f"{left.layer} {_written(left.expected)}" for left in self.left_out if left.found is None]
        for title, names in (
            ("not in the file", missing),
            ("in the file, but not used", self.unused),
            ("loaded", self.loaded if every_layer else ()),
        ):
            if names:
                lines.append(f"  {title}: {', '.join(names)}")
        return "\n".join(lines)


def weighted_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers of a `MaskRCNN` or a `Classifier` that have weights; their names are unique."""
    for part in model.parts:
        yield from (layer for layer in part.layers if layer.weights)


def assign_weights(
    model: keras.Model, offers: Mapping[str, Offer], layers_of_file: Sequence[str], source: str
) -> WeightReport:
    """Give each layer what is offered under its name and has its shapes; the others stay as they are.

    Args:
        offers: by name of our layer.
        layers_of_file: all that the file has, by its names, to tell what was not used.

    Raises:
        InputError: weights that would be taken are not finite.
    """
    loaded, left_out, used = [], [], set()
    for layer in weighted_layers(model):
        expected = tuple(tuple(weight.shape) for weight in layer.weights)
        offer = offers.get(layer.name)
        if offer is None:
            left_out.append(SkippedWeight(layer.name, expected, None))
            continue
        found = tuple(tuple(value.shape) for value in offer.values)
        used.update(offer.origins)
        if found != expected:
            left_out.append(SkippedWeight(layer.name, expected, found, offer.origins))
            continue
        if not all(np.isfinite(value).all() for value in offer.values):
            raise InputError(
                f"{source}: weights of {', '.join(offer.origins)} are NaN or infinite; expected those of a training "
                "that did not diverge"
            )
        layer.set_weights([np.asarray(value, np.float32) for value in offer.values])
        loaded.append(layer.name)
    return WeightReport(
        source, tuple(loaded), tuple(left_out), tuple(name for name in layers_of_file if name not in used)
    )


def _written(shapes: Shapes) -> str:
    return " ".join("×".join(map(str, shape)) or "scalar" for shape in shapes)
