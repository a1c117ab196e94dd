"""Curves of a classifier, as Matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import axes_of


def roc_figure(positive: np.ndarray, probabilities: np.ndarray, threshold: float, title: str) -> Figure:
    """Sensitivity over 1 − specificity at every threshold, with the working point marked."""
    figure, axes = axes_of(title, "1 − specificity", "sensitivity")
    levels = np.concatenate([[np.inf], np.unique(probabilities)[::-1]])
    if positive.any() and not positive.all():
        called = probabilities[None] >= np.append(levels, threshold)[:, None]
        up, across = called[:, positive].mean(axis=1), called[:, ~positive].mean(axis=1)
        axes.plot(across[:-1], up[:-1])
        axes.plot(across[-1], up[-1], "o", label=f"probability {threshold:.2g}")
        axes.legend(frameon=False, loc="lower right")
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    return figure


def reliability_figure(bins: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str) -> Figure:
    """Share of positives over the mean probability of each bin (DeGroot & Fienberg 1983); a point's area is its images.

    Args:
        bins: by name, as `mrcnn.metrics.calibration.reliability` gives them.
    """
    figure, axes = axes_of(title, "mean probability", "share of positives")
    for name, (mean, share, counts) in bins.items():
        (line,) = axes.plot(mean, share, label=name)
        axes.scatter(mean, share, 200 * counts / max(counts.sum(), 1), color=line.get_color())
    axes.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    axes.legend(frameon=False)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    return figure
