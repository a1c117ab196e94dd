import math
from types import SimpleNamespace

import pytest

from experiments.comparison.candidates import Candidate
from experiments.comparison.champions import decide_aliases, head_to_head
from experiments.comparison.measurements import Measurement
from experiments.config.schema import TaskConfig


def candidate(label, version, task="brain_tumor", name="mrcnn-mri"):
    return Candidate(label, "", label * 32, TaskConfig(task=task, modality="mri"), name, version)


def test_set(task, metric="dice"):  # noqa: PT028 - not a test
    config = TaskConfig(task=task, modality="mri", evaluate={"metric": metric})
    return SimpleNamespace(task=task, config=config)


test_set.__test__ = False


def scored(any_class, by_class=None):
    def of(value):
        return SimpleNamespace(summary=lambda confidence: {"dice": value, "hd95": value, "mask_ap50": value / 2})

    return Measurement(None if by_class is None else of(by_class), of(any_class), 0.5, "kept")


TASKS = [test_set("brain_tumor"), test_set("lgg")]
"""Three models: A and B of one task, C of the other."""
MODELS = [candidate("A", "1"), candidate("B", "2"), candidate("C", "3", "lgg")]
FOUND = {
    ("A", 0): scored(0.8, 0.7), ("B", 0): scored(0.7, 0.75), ("C", 0): scored(0.5),
    ("A", 1): scored(0.2), ("B", 1): scored(0.4), ("C", 1): scored(0.9, 0.9),
}  # fmt: skip


def test_head_to_head_is_the_mean_over_all_test_sets_and_nothing_where_it_cannot_run():
    found = head_to_head(MODELS, TASKS, {key: value for key, value in FOUND.items() if key != ("B", 1)})
    assert {label: each["dice"] for label, each in found.items()} == pytest.approx({"A": 0.5, "B": 0.35, "C": 0.7})
    assert found["C"]["mask_ap50"] == pytest.approx(0.35)


def test_each_task_by_its_own_metric_and_the_modality_by_all():
    aliases = {"mrcnn-mri": {"champion": "1", "champion-brain_tumor": "1", "champion-lgg": "3"}}
    found = {each.alias: each for each in decide_aliases(MODELS, TASKS, FOUND, aliases)}
    assert (found["champion"].move.holder, found["champion"].move.version) == ("1", "3")
    assert found["champion-brain_tumor"].move.version == "2"
    assert found["champion-brain_tumor"].reason == (
        "to version 2: dice on the test images of brain_tumor 0.75, 0.7 of version 1"
    )
    assert found["champion-lgg"].move is None


def test_less_is_better_of_a_distance():
    aliases = {"mrcnn-mri": {"champion-brain_tumor": "2"}}
    found = {each.alias: each for each in decide_aliases(MODELS[:2], [test_set("brain_tumor", "hd95")], FOUND, aliases)}
    assert found["champion-brain_tumor"].move.version == "1"
    assert "hd95 on the test images of brain_tumor 0.7, 0.75 of version 2" in found["champion-brain_tumor"].reason


def test_a_tie_a_holder_that_was_not_measured_and_a_score_that_is_no_number_move_nothing():
    tie = {("A", 0): scored(0.5, 0.5), ("B", 0): scored(0.5, 0.5)}
    reasons = [
        {
            each.alias: each
            for each in decide_aliases(MODELS[:2], TASKS[:1], found, {"mrcnn-mri": {"champion": holder}})
        }["champion"]
        for found, holder in ((tie, "2"), (tie, "9"), ({("A", 0): scored(math.nan), ("B", 0): scored(math.nan)}, "1"))
    ]
    assert [each.move for each in reasons] == [None] * 3
    assert "none is better" in reasons[0].reason
    assert reasons[1].reason == "stays with version 9, which could not be measured here"


def test_registered_models_do_not_contend_with_one_another():
    models = [candidate("A", "1"), candidate("B", "1", name="unet-mri")]
    found = decide_aliases(models, TASKS[:1], FOUND, {"mrcnn-mri": {}, "unet-mri": {}})
    assert {(each.name, each.alias): each.move.version for each in found} == {
        (name, alias): "1" for name in ("mrcnn-mri", "unet-mri") for alias in ("champion", "champion-brain_tumor")
    }


def test_a_model_that_reaches_nothing_gets_no_alias_but_a_distance_of_0_is_the_best():
    found = {("A", 0): scored(0.0, 0.0), ("B", 0): scored(0.0, 0.0)}
    for each in decide_aliases(MODELS[:2], TASKS[:1], found, {"mrcnn-mri": {}}):
        assert each.move is None and each.reason.endswith("is 0, and such a model is never champion")
    distance = decide_aliases(MODELS[:2], [test_set("brain_tumor", "hd95")], found, {"mrcnn-mri": {}})
    assert [each.move and each.move.version for each in distance] == [None, "1"]
