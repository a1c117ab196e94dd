import pytest

from experiments.evaluation.page import Term
from experiments.evaluation.report_numbers import (
    patient_table,
    result_tables,
    size_groups,
    suggestions,
    summary,
    weakest_group,
)
from trackers.runs.reader import RunRecord


def recorded(metrics, classes, split="test"):
    profile = {"whole": {"instances": dict.fromkeys(classes, 3)}}
    return RunRecord("0" * 32, "1", metrics, {}, {}, {split: (f"mine ({split})", "d")}, profile, 0)


def instances(class_name, found, diameters=None, area="100"):
    """Rows of per_instance.csv: text, as a CSV file has it."""
    diameters = diameters or [""] * len(found)
    return [
        {"image": "1", "class": class_name, "area": area, "diameter_mm": str(diameter), "found": str(hit)}
        for hit, diameter in zip(found, diameters, strict=True)
    ]


def test_each_class_has_its_own_scores_also_where_mlflow_makes_their_names_alike():
    # MLflow takes neither < nor >, so `trackers.runs.names` makes both `a_b` and tells them apart by the order of
    # logging.
    metrics = {"test/dice": 0.5, "test/dice_lo": 0.4, "test/dice_hi": 0.6, "val/dice": 0.9}
    metrics |= {"test/dice/a_b": 0.25, "test/dice/a_b_2": 0.75, "test/dice/a_b_lo": 0.2, "test/dice/a_b_hi": 0.3}
    tables = result_tables(recorded(metrics, ["a<b", "a>b"]))
    ((name, *cells),) = tables["overall"]
    assert (name.label, cells) == ("Dice", ["0.500", "0.400 – 0.600"]) and "|A ∩ B|" in name.definition
    assert [heading.label for heading in tables["class_headings"][1:]] == ["Dice"]
    assert tables["per_class"] == [("a<b", "0.250\n0.200 – 0.300"), ("a>b", "0.750")]


def test_one_class_is_not_repeated_and_sizes_are_shown():
    metrics = {"val/dice": 0.5, "val/dice/a": 0.5, "val/mask_ap_small": 0.125, "val/mask_ap_large": float("nan")}
    tables = result_tables(recorded(metrics, ["a"], "val"))
    assert tables["per_class"] == [] and tables["headings"] == ["metric", "value"]
    assert tables["by_size"] == [("small: under 32² px", "0.125", "–"), ("large: from 96² px", "–", "–")]
    assert all(isinstance(name, Term) and name.definition for name, _ in tables["overall"])


def test_a_run_without_scores_has_no_table():
    assert result_tables(recorded({"train/loss": 1.0}, ["a"]))["overall"] == []


def test_sizes_are_in_mm_only_if_all_are_known():
    rows = instances("a", [True, False, True], [9.99, 10, 41])
    assert size_groups(rows) == [("under 10 mm", 1, 1), ("10 to 20 mm", 0, 1), ("from 40 mm", 1, 1)]
    assert size_groups(rows + instances("a", [False], area="1024")) == [("under 32² px", 2, 3), ("32² to 96² px", 0, 1)]
    assert size_groups([]) == []


def test_the_summary_counts_and_names_the_weakest_group():
    counts = {"instances": 10, "images": 20, "true_positives": 7, "false_positives": 6, "dice": 0.625}
    run = recorded({f"test/{name}": value for name, value in counts.items()}, ["a"])
    rows = instances("a", [True] * 5, [30] * 5) + instances("a", [True, True, False, False, False], [5] * 5)
    assert summary(run, rows, "nodules") == [
        "Finds 7 of 10 nodules (70%), with 0.3 false marks an image.",
        "Mean Dice: 0.62 (1 is a perfect outline).",
        "Weakest on nodules under 10 mm: 2 of 5 found (40%).",
    ]
    assert weakest_group(instances("a", [True, False] * 5), "nodules") is None  # one group is no weakness
    rows = instances("a", [True] * 5) + instances("b", [False] * 5)
    assert weakest_group(rows, "nodules") == ("nodules of class b", 0, 5)
    rows = instances("a", [True] * 5, [30] * 5) + instances("a", [False] * 5, [12] * 5)
    assert weakest_group(rows, "nodules") == ("nodules of 10 to 20 mm", 0, 5)
    assert summary(recorded({"test/auc": 0.5}, []), [], "nodules") == []


@pytest.mark.parametrize(
    ("found", "total", "false", "images", "sentence"),
    [
        (199, 200, 1, 24, "Finds 199 of 200 nodules (99%), with 0.04 false marks an image."),
        (1, 400, 0, 24, "Finds 1 of 400 nodules (1%), with no false mark."),
        (8, 8, 24, 24, "Finds 8 of 8 nodules (100%), with 1.0 false marks an image."),
    ],
)
def test_the_summary_rounds_no_error_away(found, total, false, images, sentence):
    counts = {"instances": total, "images": images, "true_positives": found, "false_positives": false}
    run = recorded({f"test/{name}": value for name, value in counts.items()}, ["a"])
    assert summary(run, [], "nodules") == [sentence]


@pytest.mark.parametrize(
    ("metrics", "word"),
    [
        ({"epochs": 20, "best_epoch": 20}, "Train longer"),
        ({"epochs": 20, "best_epoch": 4}, "Stop earlier"),
        ({"test/precision": 0.4, "test/recall": 0.8}, "Raise --confidence"),
        ({"test/precision": 0.8, "test/recall": 0.4}, "Lower --confidence"),
        ({"test/mask_ap_small": 0.1, "test/mask_ap_large": 0.5}, "Raise --image_size"),
        ({"test/patients": 7}, "Evaluate on more patients: 7"),
    ],
)
def test_suggestions_follow_the_numbers(metrics, word):
    (line,) = suggestions(recorded({"test/dice": 0.5, **metrics}, ["a"]), [])
    assert line.startswith(word)


def test_patients_are_numbered_and_summed():
    def row(patient, dice, found, missed, false):
        return {"patient_id": patient, "dice": dice, "instances": str(found + missed), "true_positives": str(found),
                "misses": str(missed), "false_positives": str(false)}  # fmt: skip

    rows = patient_table([row("Eva", "0.5", 1, 1, 0), row("Max", "", 0, 0, 2), row("Eva", "1.0", 1, 0, 1)])
    assert rows == [("1", "2", "3", "2", "1", "1", "0.750"), ("2", "1", "0", "0", "0", "2", "–")]
    assert patient_table([{"patient_id": "Eva", "probability": "0.5"}]) == []  # of a classifier
