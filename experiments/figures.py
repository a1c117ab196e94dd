"""Curves of an evaluation as Matplotlib figures, made without pyplot so that no window system is needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mrcnn.metrics.froc import RATES


def precision_recall_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Precision over recall at mask IoU 0.5, a line for each class; `curves` holds (recall, precision)."""
    figure, axes = _axes(title, "recall", "precision")
    for name, (recall, precision) in curves.items():
        axes.plot(recall, precision, label=name)
    if curves:
        axes.legend(frameon=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return figure


def froc_figure(false_positives: np.ndarray, sensitivity: np.ndarray, title: str) -> Figure:
    """Sensitivity over false positives per image (Bunch et al. 1977), with the seven rates of the FROC score marked."""
    figure, axes = _axes(title, "false positives per image", "sensitivity")
    if len(false_positives):
        # The curve holds its last sensitivity for every higher rate.
        axes.step([*false_positives, RATES[-1]], [*sensitivity, sensitivity[-1]], where="post")
    axes.set_xscale("symlog", base=2, linthresh=RATES[0])
    axes.set_xticks(RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.set(xlim=(0, RATES[-1]), ylim=(0, 1.02))
    for rate in RATES:
        axes.axvline(rate, color="0.9", linewidth=0.8, zorder=0)
    return figure


def _axes(title: str, across: str, up: str):
    figure = Figure(figsize=(5, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
