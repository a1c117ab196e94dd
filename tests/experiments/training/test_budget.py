import pytest

from experiments.config.schema import TrainOptions
from experiments.training import budget
from experiments.training.callbacks import TrainingState
from experiments.training.training_data import validation_subset
from mrcnn.data import read_dataset


@pytest.mark.parametrize(
    ("preset", "images", "drawn"),
    [("standard", 50, 5_000), ("standard", 300, 12_000), ("standard", 4_000, 20_000), ("fast", 300, 4_500)],
)
def test_images_drawn_by_preset(preset, images, drawn):
    assert budget.PRESETS[preset].images(images) == drawn


@pytest.mark.parametrize(
    ("options", "kind", "seconds"),
    [({}, "cpu", 1800), ({}, "gpu", None), ({"preset": "fast"}, "cpu", 300), ({"budget": "1.5h"}, "gpu", 5400)],
)
def test_the_budget(options, kind, seconds):
    assert budget.budget_seconds(TrainOptions(**options), kind) == seconds


LENGTHS = {
    # 1800 s - 10 % - 90 s = 1530 s; 100 images validated 20 times take 200 s; 1330 s / 0.4 s = 3325 steps.
    "fits in part": ((1800, 20_000, 4, 100, 0.4, 0.1), (20, 167, None)),
    "fits": ((1800, 8_000, 4, 100, 0.4, 0.1), (20, 100, None)),
    "no budget": ((None, 8_000, 8, 10_000, 9.0, 9.0), (20, 50, None)),
    # A sixth of 1530 s for 20 validations: 12.75 s, 127 images; 1530 - 254 = 1276 s.
    "large validation": ((1800, 20_000, 4, 1_000, 0.4, 0.1), (20, 160, 127)),
    # 8 validations of 300 images take 240 s; 1290 s / 0.4 s = 3225 steps.
    "large validation as given": ((1800, 20_000, 4, 300, 0.4, 0.1, None), (8, 404, None)),
    # 255 s for validations of 20 s each: 12 of one image; 1290 s / 0.4 s = 3225 steps.
    "few large images": ((1800, 20_000, 4, 30, 0.4, 20.0, 1), (12, 269, 1)),
    # A fifth of 60 s at 0.2 s: 60 steps, two epochs.
    "tight": ((60, 20_000, 4, 0, 0.2, 0.1), (2, 30, None)),
    "nothing fits": ((60, 20_000, 4, 300, 30.0, 9.0), (1, 1, 10)),
}


@pytest.mark.parametrize(("arguments", "length"), LENGTHS.values(), ids=list(LENGTHS))
def test_the_length_of_a_training_by_hand(arguments, length):
    assert budget.planned_length(*arguments) == budget.Length(*length)


@pytest.mark.parametrize(
    ("scores", "since"),
    [
        ([0.1, 0.2, 0.3], 0),
        # The mean of 0.9, 0.2, 0.2 is still below that of 0.5, 0.6, 0.9: 0.667.
        ([0.5, 0.6, 0.9, 0.2, 0.2], 2),
        ([float("nan"), 0.5, float("nan"), 0.4], 2),
        ([float("nan")] * 3, 3),
    ],
)
def test_early_stopping_looks_at_means_of_three(scores, since):
    state = TrainingState("val/dice")
    for value in scores:
        state.add_validation({"dice": value})
    assert state.validations_since_best() == since


def test_validation_on_a_part_of_the_split(phantom_folder):
    phantom_dataset = read_dataset(phantom_folder)
    records = phantom_dataset.records
    part = validation_subset(phantom_dataset, 3, 0, whole_patients=False)
    assert len(part) == 3 and any(len(record.class_ids) for record in part.records)
    assert validation_subset(phantom_dataset, None, 0, whole_patients=False) is phantom_dataset
    assert validation_subset(phantom_dataset, len(records), 0, whole_patients=False) is phantom_dataset
    patients = validation_subset(phantom_dataset, 3, 0, whole_patients=True)
    names = {record.patient_id for record in patients.records}
    assert len(patients) >= 3 and len(patients) == sum(record.patient_id in names for record in records)
