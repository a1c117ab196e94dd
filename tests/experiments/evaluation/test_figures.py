import re
from pathlib import Path

import numpy as np

import experiments.evaluation
from experiments.evaluation.figures import CELLS, SERIES, confusion_figure, coverage


def test_one_instance_of_a_rare_class_is_pale_and_each_count_is_legible():
    matrix = np.array([[90, 0, 10], [0, 0, 1], [5, 1, 0]])
    figure = confusion_figure(matrix, ["common", "rare"], "")
    (axes,) = figure.axes
    shade = axes.images[0]
    colors = shade.cmap(shade.norm(shade.get_array()))[..., :3].mean(axis=-1)  # 0 is black
    assert colors[1, 2] > 0.95 and colors[0, 0] < 0.5
    texts = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert texts[0, 0] == ("90\n90%", "white") and texts[2, 1] == ("1\n100%", "black")
    assert texts[0, 2] == ("5", "black") and (2, 2) not in texts


def test_the_map_counts_the_boxes_over_each_place():
    counts = coverage(np.array([[0, 0, 0.5, 0.5], [0.25, 0, 1, 1]]))
    assert [counts[0, 0], counts[0, CELLS // 4], counts[-1, -1], counts[-1, 0]] == [1, 2, 1, 0]
    assert counts.sum() == CELLS**2 * (0.25 + 0.75)
    assert coverage(np.zeros((0, 4))).sum() == 0


def test_lines_have_the_colors_of_the_charts_of_the_page():
    style = Path(experiments.evaluation.__file__).with_name("templates").joinpath("style.css").read_text()
    light = dict(re.findall(r"--s(\d): (#\w+)", style.partition("@media")[0]))
    assert [each.replace("#444444", "#444") for each in SERIES] == [light[str(at)] for at in range(len(SERIES))]
