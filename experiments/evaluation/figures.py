"""Plot the curves of an evaluation with Matplotlib; without pyplot, which would need a window system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mrcnn.data import Record
from mrcnn.inference.drawing import class_color
from mrcnn.metrics.froc import RATES

SERIES = ("#332288", "#117733", "#882255", "#2a7f9e", "#7a7a1f", "#aa4499", "#444444")
"""Colors of lines that are no classes: those of the charts of the page, `--s0` and on in style.css."""
CELLS = 40
"""Rows and columns of the map of positions."""
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", SERIES[0]])


def precision_recall_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str, class_names: Sequence[str]
) -> Figure:
    """Plot precision over recall at mask IoU 0.5, a line for each class in the color that it has in overlays.

    `curves` has (recall, precision) by class.
    """
    figure, axes = axes_of(title, "recall", "precision")
    for name, (recall, precision) in curves.items():
        color = _rgb(class_names.index(name) + 1)
        # Bright colors need a dark outline on white.
        axes.plot(recall, precision, label=name, color=color, path_effects=[withStroke(linewidth=3, foreground="0.1")])
    if curves:
        axes.legend(frameon=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def froc_figure(false_positives: np.ndarray, sensitivity: np.ndarray, title: str) -> Figure:
    """Plot sensitivity over false positives per image (Bunch et al. 1977); lines mark the rates of the FROC score."""
    figure, axes = axes_of(title, "false positives per image", "sensitivity")
    if len(false_positives):
        # The curve holds its last sensitivity for every higher rate.
        axes.step([*false_positives, RATES[-1]], [*sensitivity, sensitivity[-1]], where="post")
    axes.set_xscale("symlog", base=2, linthresh=RATES[0])
    axes.set_xticks(RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.set(xlim=(0, RATES[-1]), ylim=(0, 1.02))
    for rate in RATES:
        axes.axvline(rate, color="0.9", linewidth=0.8, zorder=0)
    return figure


def confidence_figure(curves: Mapping[str, np.ndarray], confidence: float, title: str) -> Figure:
    """Plot precision, recall and F1 (T,) over the confidence threshold (T,); a line marks the operating point."""
    figure, axes = axes_of(title, "confidence threshold", "score")
    for name, label in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
        axes.plot(curves["threshold"], curves[name], label=label)
    axes.axvline(confidence, color="0.4", linewidth=0.8, linestyle="--", label=f"operating point {confidence:.2g}")
    axes.legend(frameon=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def reliability_figure(
    bins: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str, across: str, up: str
) -> Figure:
    """Plot a reliability diagram (DeGroot & Fienberg 1983); the area of a point is its share of the items.

    `bins` are those of `mrcnn.metrics.calibration.reliability` by name.
    """
    figure, axes = axes_of(title, across, up)
    for name, (mean, share, counts) in bins.items():
        (line,) = axes.plot(mean, share, label=name)
        axes.scatter(mean, share, 200 * counts / max(counts.sum(), 1), color=line.get_color())
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.legend(frameon=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure


def confusion_figure(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Plot a confusion matrix (K + 1, K + 1): each count with its share of the row, except in the row of no instance.

    The shade is the count relative to the largest count, so that single instances of a rare class stay pale.
    """
    figure, axes = axes_of(title, "detected as", "truth")
    shades = matrix / max(matrix.max(), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shades, cmap=_SHADES, vmin=0, vmax=1)
    places = np.arange(len(matrix))
    axes.set_xticks(places, [*class_names, "missed"], rotation=30, ha="right")
    axes.set_yticks(places, [*class_names, "no instance\n(false positive)"])
    for row, column in np.ndindex(matrix.shape):
        if row < len(class_names) or column < len(class_names):
            text, color = str(matrix[row, column]), "white" if shades[row, column] > 0.5 else "black"
            if row < len(class_names) and matrix[row].any():
                text += f"\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=12 if len(matrix) < 5 else 9)
    axes.spines[:].set_visible(False)
    return figure


def sizes_figure(sides: Mapping[str, np.ndarray]) -> Figure:
    """Plot a histogram of instance sizes for each class; `sides` are square roots of areas in pixels."""
    figure, axes = axes_of("Size of instances", "side (square root of the area) in pixels", "instances")
    present = {name: values for name, values in sides.items() if len(values)}
    every = np.concatenate(list(present.values()))
    edges = np.geomspace(max(every.min() * 0.9, 0.9), every.max() * 1.1, 25)
    colors = [_rgb(list(sides).index(name) + 1) for name in present]
    axes.hist(list(present.values()), edges.tolist(), stacked=True, label=list(present), color=colors, edgecolor="0.1")
    axes.set_xscale("log", base=2)
    ticks = 2.0 ** np.arange(np.floor(np.log2(edges[0])), np.ceil(np.log2(edges[-1])) + 1)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.legend(frameon=False)
    return figure


def labels_figure(records: Sequence[Record], class_names: Sequence[str]) -> Figure:
    """Plot where in the images the instances are, and how wide and high they are, both relative to their image.

    The map shows how many bounding boxes cover each place, in `CELLS` × `CELLS` cells.
    """
    sides = [np.array([[each.width, each.height]], np.float64) for each in records]
    boxes = np.concatenate([np.zeros((0, 4)), *(each.boxes / np.tile(side, 2)
                                                for each, side in zip(records, sides, strict=True))])  # fmt: skip
    class_ids = np.concatenate([np.zeros(0, int), *(each.class_ids for each in records)])
    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    place, size = figure.subplots(1, 2)
    extent = (0, 100, 100, 0)
    shown = place.imshow(coverage(boxes), cmap=_SHADES, extent=extent, aspect="auto", vmin=0)
    figure.colorbar(shown, ax=place, label="bounding boxes that cover the place")
    place.set(xlabel="% of the width", ylabel="% of the height")
    place.set_title("Position of the instances", fontsize=10)
    for class_id, name in enumerate(class_names, start=1):
        width, height = 100 * (boxes[class_ids == class_id, 2:] - boxes[class_ids == class_id, :2]).T
        if len(width):
            size.scatter(width, height, 14, color=_rgb(class_id), edgecolor="0.1", linewidth=0.4, alpha=0.7, label=name)
    size.set(xlabel="% of the width", ylabel="% of the height", xlim=(0, 100), ylim=(0, 100))
    size.set_title("Sides of the instances", fontsize=10)
    size.spines[["top", "right"]].set_visible(False)
    if len(boxes):
        size.legend(frameon=False, loc="upper right")
    return figure


def coverage(boxes: np.ndarray) -> np.ndarray:
    """Count the boxes that overlap each cell of a grid over the image.

    Args:
        boxes: (N, 4) as (x1, y1, x2, y2), relative to the sides of the image, 0 … 1.

    Returns:
        (CELLS, CELLS) int64, rows from the top.
    """
    counts = np.zeros((CELLS, CELLS), np.int64)
    starts = np.floor(np.clip(boxes[:, :2], 0, 1) * CELLS).astype(int)
    ends = np.ceil(np.clip(boxes[:, 2:], 0, 1) * CELLS).astype(int)
    for (x1, y1), (x2, y2) in zip(starts.tolist(), ends.tolist(), strict=True):
        counts[y1:y2, x1:x2] += 1
    return counts


def _rgb(class_id: int) -> tuple[float, float, float]:
    red, green, blue = class_color(class_id)
    return red / 255, green / 255, blue / 255


def axes_of(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    """Make a figure of the common size and its axes, with a title and labels."""
    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=SERIES)
    axes.set(xlabel=across, ylabel=up)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
