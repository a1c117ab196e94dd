from experiments.evaluation.report_numbers import results
from trackers.runs.reader import RunRecord


def recorded(metrics, classes, split="test"):
    profile = {"whole": {"instances": dict.fromkeys(classes, 3)}}
    return RunRecord("0" * 32, "1", metrics, {}, {}, {split: (f"mine ({split})", "d")}, profile, 0)


def test_each_class_has_its_own_scores_also_where_mlflow_makes_their_names_alike(read_page):
    # MLflow takes neither < nor >, so `trackers.runs.names` makes both `a_b` and tells them apart by the order of
    # logging.
    metrics = {"test/dice": 0.5, "test/dice_lo": 0.4, "test/dice_hi": 0.6, "val/dice": 0.9}
    metrics |= {"test/dice/a_b": 0.25, "test/dice/a_b_2": 0.75, "test/dice/a_b_lo": 0.2, "test/dice/a_b_hi": 0.3}
    page = results(recorded(metrics, ["a<b", "a>b"]))
    cells = page.replace("<td>", "|").replace("</td>", "")
    assert "|Dice|0.500|0.400 – 0.600" in cells
    assert "|a&lt;b|0.250 (0.200 – 0.300)" in cells and "|a&gt;b|0.750<" in cells
    assert "0.900" not in page
    read_page(page)


def test_one_class_is_not_told_twice_and_sizes_are(read_page):
    metrics = {"val/dice": 0.5, "val/dice/a": 0.5, "val/mask_ap_small": 0.125, "val/mask_ap_large": float("nan")}
    page = results(recorded(metrics, ["a"], "val"))
    assert "Each class" not in page and page.count("0.500") == 1
    assert "<td>small: under 32² px</td><td>0.125</td><td>–</td>" in page
    assert "<td>large: from 96² px</td><td>–</td>" in page and "No intervals" in page
    assert "95 % interval" not in page


def test_a_run_without_scores_says_so():
    assert "No score is recorded" in results(recorded({"train/loss": 1.0}, ["a"]))
