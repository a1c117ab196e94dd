"""Assign converted weights to the layers of a model and report the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from mrcnn.errors import InputError, counted
from mrcnn.models.detector_base import DetectorBase

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class SourceWeights:
    """Weights for one layer, in the order of its variables, and the names of their layers in the file."""

    values: Sequence[np.ndarray]
    origins: tuple[str, ...]


@dataclass(frozen=True)
class SkippedWeight:
    """A layer without weights from the file: its shapes and the shapes in the file, None if missing."""

    layer: str
    expected: Shapes
    found: Shapes | None
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightReport:
    """Result of loading weights.

    Attributes:
        source: file or name of the weights.
        loaded: layers with weights from the file.
        skipped: layers without.
        unused: layers of the file that no layer uses.
        notes: further sentences for the user.
    """

    source: str
    loaded: tuple[str, ...] = ()
    skipped: tuple[SkippedWeight, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def text(self, *, every_layer: bool = False) -> str:
        """Format the report, with one line per layer of another shape; `every_layer` lists all other layers, too."""
        total = len(self.loaded) + len(self.skipped)
        new = dict.fromkeys(each.layer.partition("_")[0] for each in self.skipped if each.found is None)
        lines = [
            f"Weights from {self.source}"
            + (f": {len(self.loaded)} of {counted(total, 'layer')}" if total else "")
            + (f"; new: {', '.join(new)}" if new else "")
        ]
        lines += [f"  {note}" for note in self.notes]
        lines += [
            f"  {each.layer} {_format_shapes(each.expected)}: the file's {', '.join(each.origins)} "
            f"has {_format_shapes(each.found)}"
            for each in self.skipped
            if each.found is not None
        ]
        if every_layer:
            missing = [f"{each.layer} {_format_shapes(each.expected)}" for each in self.skipped if each.found is None]
            parts = {"not in the file": missing, "in the file, but not used": self.unused, "loaded": self.loaded}
            lines += [f"  {title}: {', '.join(names)}" for title, names in parts.items() if names]
        elif self.unused:
            lines.append(f"  {counted(len(self.unused), 'layer of the file is', 'layers of the file are')} not used")
        return "\n".join(lines)


def weighted_layers(model: DetectorBase) -> Iterator[keras.layers.Layer]:
    """Yield the layers with weights; their names are unique."""
    for submodel in model.submodels:
        yield from (layer for layer in submodel.layers if layer.weights)


def assign_weights(
    model: DetectorBase, sources: Mapping[str, SourceWeights], layers_of_file: Sequence[str], source: str
) -> WeightReport:
    """Assign weights to the layers with the same name and shapes; other layers keep their values.

    `layers_of_file` are all layer names of the file, for the report of unused ones; `source` names it in messages.

    Raises:
        InputError: weights to assign are not finite.
    """
    loaded, skipped, used = [], [], set()
    for layer in weighted_layers(model):
        expected = tuple(tuple(weight.shape) for weight in layer.weights)
        source_weights = sources.get(layer.name)
        if source_weights is None:
            skipped.append(SkippedWeight(layer.name, expected, None))
            continue
        found = tuple(tuple(value.shape) for value in source_weights.values)
        used.update(source_weights.origins)
        if found != expected:
            skipped.append(SkippedWeight(layer.name, expected, found, source_weights.origins))
            continue
        if not all(np.isfinite(value).all() for value in source_weights.values):
            raise InputError(
                f"{source}: weights of {', '.join(source_weights.origins)} are NaN or infinite; "
                "expected those of a training that did not diverge"
            )
        layer.set_weights([np.asarray(value, np.float32) for value in source_weights.values])
        loaded.append(layer.name)
    return WeightReport(
        source, tuple(loaded), tuple(skipped), tuple(name for name in layers_of_file if name not in used)
    )


def _format_shapes(shapes: Shapes) -> str:
    return " ".join("×".join(map(str, shape)) or "scalar" for shape in shapes)
