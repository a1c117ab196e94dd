import re

from trackers.registry.model_card import LONGEST, model_card
from trackers.runs.reader import RunRecord

PART = {"patients": 4, "images": 9, "images_without_instances": 1}


def recorded(**given):
    classes = {"iso": 6, "hypo": 5}
    profile = {"whole": {**PART, "instances": classes}, "splits": {"train": PART, "test": {**PART, "images": 0}}}
    metrics = {"test/dice": 0.8, "test/dice_lo": 0.7, "test/dice_hi": 0.9, "test/dice/iso": 0.81,
               "test/dice/iso_lo": 0.7, "test/dice/iso_hi": 0.9, "test/images": 9.0, "confidence": 0.35}  # fmt: skip
    facts = {
        "run_id": "0" * 32,
        "experiment_id": "1",
        "metrics": metrics,
        "params": {"evaluate.confidence": "auto"},
        "tags": {"task": "thyroid", "modality": "ultrasound"},
        "data": {"train": ("mine (train)", "aa"), "test": ("mine (test)", "bb")},
        "profile": profile,
        "started": 0,
    }
    return RunRecord(**(facts | given))


def test_it_says_what_the_run_knows():
    card = model_card(recorded(), "mrcnn-ultrasound", "3", "dice", 1)
    assert "Research use only" in card and "mine, split by patient: train 9 images of 4 patients" in card
    assert "| dice | 0.800 | 0.700 – 0.900 |" in card and "dice/iso" not in card and "images |" not in card
    assert "**Working threshold:** 0.35, chosen on the validation split" in card
    assert "models:/mrcnn-ultrasound/3" in card and "`bb`" in card and "/runs/" + "0" * 32 in card


def test_it_says_that_there_was_no_test_split():
    metrics = {"val/dice": 0.8, "confidence": 0.9}
    run = recorded(data={"val": ("mine (val)", "bb")}, metrics=metrics, params={"evaluate.confidence": "0.9"})
    card = model_card(run, "m", "1", "dice", 1)
    assert "there is no test" in card and "| dice | 0.800 |  |" in card and "given beforehand" in card


def test_it_says_how_many_models_competed():
    alone = model_card(recorded(), "m", "1", "dice", 1)
    assert "validation dice decides on the champion" in alone and "competed with no other registered model" in alone
    assert "trainings of its run" not in alone
    among = model_card(recorded(params={"train.seeds": "4"}), "m", "3", "dice", 3)
    assert "competed with 2 other registered models on the same validation data. It is the best of 4 trainings" in among
    assert "the best of 12 trainings" in model_card(recorded(metrics={"trials_finished": 12.0}), "m", "1", "dice", 1)


def test_phantoms_are_called_phantoms():
    assert "phantoms" not in model_card(recorded(), "m", "1", "dice", 1)
    assert "say nothing about patients" in model_card(recorded(params={"data.dataset": "null"}), "m", "1", "dice", 1)


def test_a_run_that_recorded_nothing_still_has_one():
    card = model_card(recorded(metrics={}, params={}, tags={}, data={}, profile={}), "m", "1", "dice", 1)
    assert "Research use only" in card and "models:/m/1" in card and "Working threshold" not in card


def test_names_are_text_and_it_fits_the_database():
    name = "<script>*x*</script> [a](http://evil) | `" + "ü" * 200
    instances = {f"{number}{name}": 1 for number in range(200)}
    profile = {"whole": {**PART, "instances": instances}, "splits": {"train": PART}}
    card = model_card(recorded(profile=profile, data={"test": (f"{name} (test)", "bb")}), "m", "1", "dice", 1)
    assert len(card) < LONGEST and card.endswith("```")
    assert not re.search(r"(?<!\\)<script|(?<!\\)\]\(http://evil", card)
    assert "and 188 more" in card
