import math
from types import SimpleNamespace

import pytest

from experiments.comparison.candidates import Candidate
from experiments.comparison.champions import decide_aliases, head_to_head
from experiments.comparison.measurements import Measurement
from experiments.config.schema import TaskConfig
from trackers.registry.contest import Score


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


def version(number, value, digest="v1", metric="dice", task="brain_tumor", name="mrcnn-mri"):
    label = "ABCDEFGH"[int(number) - 1]
    config = TaskConfig(task=task, modality="mri", evaluate={"metric": metric})
    score = None if value is None else Score(metric, value, digest)
    return Candidate(label, "", label * 32, config, name, number, validation=score)


def decided(models, **aliases):
    held = {alias.replace("_for_", "-"): number for alias, number in aliases.items()}
    return {each.alias: each for each in decide_aliases(models, {"mrcnn-mri": held, "unet-mri": held})}


def test_the_best_on_the_validation_images_of_the_holder_takes_the_alias():
    models = [version("1", 0.5), version("2", 0.6), version("3", 0.55), version("4", 0.9, "v2", task="lgg")]
    found = decided(models, champion="1", champion_for_lgg="4")
    assert (found["champion"].move.holder, found["champion"].move.version) == ("1", "2")
    assert found["champion"].reason == (
        "to version 2: validation dice 0.6, 0.5 of version 1; versions that are not comparable: 1"
    )
    assert found["champion-brain_tumor"].move.version == "2"
    assert found["champion-lgg"].move is None
    assert found["champion-lgg"].reason == "stays with version 4: validation dice 0.9, none is better"


def test_less_is_better_of_a_distance():
    found = decided([version("1", 4.0, metric="hd95"), version("2", 3.0, metric="hd95")], champion="1")
    assert found["champion"].move.version == "2"
    zero = decided([version("1", 0.0, metric="hd95")])["champion"]
    assert zero.move.version == "1"


def test_a_tie_an_unknown_holder_and_scores_that_are_no_numbers_move_nothing():
    tie = decided([version("1", 0.5), version("2", 0.5)], champion="2")["champion"]
    unknown = decided([version("1", 0.5), version("2", None)], champion="2")["champion"]
    absent = decided([version("1", 0.5)], champion="9")["champion"]
    nothing = decided([version("1", math.nan)])["champion"]
    assert [each.move for each in (tie, unknown, absent, nothing)] == [None] * 4
    assert tie.reason == "stays with version 2: validation dice 0.5, none is better"
    assert unknown.reason == "stays with version 2, whose validation score is unknown"
    assert absent.reason == "stays with version 9, whose validation score is unknown"
    assert nothing.reason == "is not assigned: no version has a validation score"


def test_without_a_holder_versions_of_different_validation_data_are_not_compared():
    found = decided([version("1", 0.5), version("2", 0.9, "v2", task="lgg")])
    assert found["champion"].move is None and "validated on different data" in found["champion"].reason
    assert (found["champion-brain_tumor"].move.version, found["champion-lgg"].move.version) == ("1", "2")


def test_registered_models_do_not_contend_with_one_another():
    models = [version("1", 0.5), version("1", 0.6, name="unet-mri")]
    found = decide_aliases(models, {"mrcnn-mri": {}, "unet-mri": {}})
    assert {(each.name, each.alias): each.move.version for each in found} == {
        (name, alias): "1" for name in ("mrcnn-mri", "unet-mri") for alias in ("champion", "champion-brain_tumor")
    }


def test_a_model_that_reaches_nothing_gets_no_alias():
    (found,) = {each.reason for each in decided([version("1", 0.0), version("2", 0.0)]).values()}
    assert found == "is not assigned: validation dice 0, and such a model is never champion"
