"""`mrcnn check`: what it tells of good and of bad data, and that a training stands on the same check."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from experiments.commands.check import main
from experiments.config.resolve import resolve
from experiments.preparation.data_check import check_data
from experiments.training.folds import divide
from experiments.training.training_data import record_data, usable_data
from mrcnn.errors import InputError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nodules(tmp_path, phantom_folder):
    """A copy of the phantoms, to be spoilt."""
    return Path(shutil.copytree(phantom_folder, tmp_path / "mine"))


def test_good_data_are_shown_and_pictured(nodules, capsys):
    assert main(["mine"]) == 0
    printed = capsys.readouterr().out
    assert "Data: mine" in printed and "Report: " in printed and "problem" not in printed
    facts = json.loads(Path("check-mine/report.json").read_text())
    assert facts["problems"] == [] and facts["found"]["whole"]["images"] == 20
    assert sum(len(listed) for listed in facts["splits"].values()) == 20
    page = Path("check-mine/report.html").read_text()
    assert "Research use only" in page and "No problem prevents a training" in page
    for name in ("pictures/01.jpg", "pictures/sizes.png"):
        assert name in page and Path("check-mine", name).is_file()
    sheet = Image.open("check-mine/pictures/sheet.jpg")
    colors = np.asarray(sheet).astype(int)
    assert (np.ptp(colors, axis=2) > 60).mean() > 0.005  # gray images with colored instances


def test_all_problems_are_told_and_kept(nodules, capsys):
    file = nodules / "annotations.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = 99
    file.write_text(json.dumps(content))
    assert main(["mine", "--to", "elsewhere/report"]) == 2
    printed = capsys.readouterr().out
    count = len(content["annotations"])
    assert count > 20 and printed.count("category_id 99 is not among") == 1
    assert f"(and {count - 1} more of this kind)" in printed
    assert len(json.loads(Path("elsewhere/report/report.json").read_text())["problems"]) == count
    assert Path("elsewhere/report/report.html").read_text().count("category_id 99") == 1


@pytest.mark.parametrize("near_duplicates", ["together", "ignore"])
def test_images_of_a_single_value_are_counted_and_named(nodules, capsys, near_duplicates):
    files = sorted((nodules / "images").iterdir())[:4]
    for file, value in zip(files[:3], (0, 7, 255), strict=True):
        Image.fromarray(np.full_like(np.asarray(Image.open(file)), value)).save(file)
    dark = np.zeros_like(np.asarray(Image.open(files[3])))
    dark[5, 5] = 1  # whose thumbnail is even
    Image.fromarray(dark).save(files[3])
    told = "warning: 3 images hold a single value, so that nothing can be seen in them: "
    for _ in range(2):  # the second time from the cache
        main(["mine", "--near_duplicates", near_duplicates])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "single value" in line]
        assert line == told + ", ".join(file.name for file in files[:3])


def test_images_that_are_cut_short_are_told(nodules, capsys):
    files = sorted((nodules / "images").iterdir())[:2]
    for file in files:
        file.write_bytes(file.read_bytes()[:3000])  # the header stays whole
    assert main(["mine"]) == 2
    assert any(file.name in capsys.readouterr().out for file in files)
    problems = json.loads(Path("check-mine/report.json").read_text())["problems"]
    assert all(any(file.name in problem for problem in problems) for file in files)


def test_what_cannot_be_split_is_shown_all_the_same(nodules, capsys):
    assert main(["mine", "--patient_pattern", "^", "--near_duplicates", "ignore"]) == 0
    file = nodules / "annotations.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["patient_id"] = "one"
    file.write_text(json.dumps(content))
    assert main(["mine"]) == 2
    assert "1 patient: expected at least 3" in capsys.readouterr().out
    assert Path("check-mine/pictures/01.jpg").is_file()


def test_copies_are_told_and_pictured(nodules, capsys):
    first, second = sorted((nodules / "images").iterdir())[0], sorted((nodules / "images").iterdir())[-1]
    content = json.loads((nodules / "annotations.json").read_text())
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in content["images"]}
    Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize(sizes[second.name]).save(second)
    assert main(["mine"]) == 0
    assert "2 of 20 images are nearly the same" in capsys.readouterr().out.replace("\n", " ")
    assert Path("check-mine/pictures/alike_01.jpg").is_file()
    facts = json.loads(Path("check-mine/report.json").read_text())
    homes = [name for name, listed in facts["splits"].items() for image in listed
             if image["file_name"] in (first.name, second.name)]  # fmt: skip
    assert len(homes) == 2 and len(set(homes)) == 1


def test_copies_of_another_class_are_named_and_shown_side_by_side(nodules, capsys):
    file = nodules / "annotations.json"
    content = json.loads(file.read_text())
    images = {image["id"]: image for image in content["images"]}
    classes = {key: {a["category_id"] for a in content["annotations"] if a["image_id"] == key} for key in images}
    one, other = next(
        (one, other) for one in images for other in images
        if classes[one] and classes[other] and not classes[one] & classes[other]
    )  # fmt: skip
    names = [images[key]["file_name"] for key in (one, other)]
    picture = Image.open(nodules / "images" / names[0])
    picture.resize((images[other]["width"], images[other]["height"])).save(nodules / "images" / names[1])
    main(["mine"])
    assert "instances of different classes" in capsys.readouterr().out
    (found,) = json.loads(Path("check-mine/report.json").read_text())["disagreements"]
    assert found["kind"] == "classes" and set(found["images"]) == set(names)
    assert all(name in Path("check-mine/report.html").read_text() for name in ("differing_01.jpg", *names))
    assert Image.open("check-mine/pictures/differing_01.jpg").width > 600


def test_patients_are_not_counted_where_none_is_named(nodules, capsys):
    file = nodules / "annotations.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        del image["patient_id"]
    file.write_text(json.dumps(content))
    assert main(["mine"]) == 0
    printed = capsys.readouterr().out
    assert "20 of 20 images name no patient" in printed and "┃ patients" not in printed
    assert '<th scope="col">patients' not in Path("check-mine/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none does not exist"),
        (["mine", "--to"], "--to: expected a value"),
        (["mine", "--reader", "excel"], "--data.reader='excel': expected"),
        (["mine", "--to", "mine/annotations.json"], "cannot be written"),
    ],
)
def test_bad_words_are_named(nodules, capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "Usage: mrcnn check" in capsys.readouterr().out


def test_a_split_without_instances_stops_a_training(nodules):
    content = json.loads((nodules / "annotations.json").read_text())
    content["annotations"] = content["annotations"][:1]
    (nodules / "annotations.json").write_text(json.dumps(content))
    checked = check_data(resolve(["--dataset", "mine"]).config)
    assert len(checked.problems) == 2
    with pytest.raises(InputError, match=r"no instance in the \d+ images? of the val split"):
        checked.raise_if_wrong()


def spoil(nodules):
    """Spoils one image's header, one's pixels and one's annotation; returns their names."""
    file = nodules / "annotations.json"
    content = json.loads(file.read_text())
    annotation = content["annotations"][-1]
    annotation["segmentation"] = [[1, 1, 2, 2]]
    drawn = next(image["file_name"] for image in content["images"] if image["id"] == annotation["image_id"])
    file.write_text(json.dumps(content))
    empty, cut = (path for path in sorted((nodules / "images").iterdir())[:2])
    assert drawn not in (empty.name, cut.name)
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:3000])
    return empty.name, cut.name, drawn


@pytest.mark.parametrize("duplicates", ["together", "ignore"])
def test_headers_pixels_and_annotations_are_told_in_one_go(nodules, capsys, duplicates):
    spoil(nodules)
    assert main(["mine", "--near_duplicates", duplicates]) == 2
    told = json.loads(Path("check-mine/report.json").read_text())["problems"]
    own = [line for line in told if "polygon" in line or "is empty" in line or "expected a readable" in line]
    assert len(own) == 3 and len(told) == 3 and all(line in capsys.readouterr().out for line in own[:1])


@pytest.mark.parametrize("duplicates", ["together", "ignore"])
def test_bad_images_are_left_out_if_told_so(nodules, capsys, duplicates):
    bad = spoil(nodules)
    assert main(["mine", "--on_error", "skip", "--near_duplicates", duplicates]) == 0
    printed = capsys.readouterr().out
    assert printed.count("warning: left out: ") == 3
    facts = json.loads(Path("check-mine/report.json").read_text())
    assert len(facts["found"]["skipped"]) == 3 and facts["found"]["whole"]["images"] == 17
    kept = {image["file_name"] for listed in facts["splits"].values() for image in listed}
    assert len(kept) == 17 and not kept & set(bad)
    assert "Left out: 3" in Path("check-mine/report.html").read_text()
    again = check_data(resolve(["--dataset", "mine", "--on_error", "skip", "--near_duplicates", duplicates]).config)
    assert again.found.skipped == tuple(facts["found"]["skipped"])


def test_what_was_left_out_is_recorded(nodules):
    spoil(nodules)
    config = resolve(["--dataset", "mine", "--on_error", "skip"]).config
    run = Mock()
    record_data(usable_data(check_data(config), config), config, run)
    run.metrics.assert_called_once_with({"data/skipped": 3})
    recorded = {call.args[1]: call.args[0] for call in run.json.call_args_list}
    assert len(recorded["fingerprint.json"]["skipped"]) == 3


def test_films_of_both_polarities_are_told(tmp_path, capsys):
    from mrcnn.phantoms import write_dataset

    folder = write_dataset("lung", tmp_path / "films", images=14, seed=1)
    words = [str(folder), "--task", "lung", "--near_duplicates", "ignore", "--split", "0.5,0.25,0.25"]
    main(words)
    assert "negatives" not in capsys.readouterr().out
    (found,) = [json.loads(file.read_text())["found"] for file in tmp_path.glob("check-*/report.json")]
    assert found["polarity"] is None  # of so few films
    inverted = sorted((folder / "images").iterdir())[:3]
    for file in inverted:
        Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    main(words)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "negatives" in line]
    assert line.startswith("warning: 3 of 14 films look like negatives of the others")
    assert all(file.name in line for file in inverted)
    main([*words[:1], "--task", "thyroid"])  # of other modalities nothing is said
    assert "negatives" not in capsys.readouterr().out


def test_splits_of_ones_own(nodules, capsys):
    """The splits of one check, given to the next, come back; nnU-Net's folds become those of a cross-validation."""
    first = check_data(resolve(["--dataset", "mine"]).config)
    Path("splits.json").write_text(json.dumps(first.split_lists()))
    again = check_data(resolve(["--dataset", "mine", "--splits", "splits.json", "--split_seed", "7"]).config)
    assert again.split_lists() == first.split_lists()
    names = [Path(record.file_name).stem for record in first.whole.records]
    parts = [[names[index] for index in np.union1d(first.splits["val"], first.splits["test"])],
             [names[index] for index in first.splits["train"]]]  # fmt: skip
    Path("folds.json").write_text(json.dumps([{"train": parts[1 - k], "val": parts[k]} for k in (0, 1)]))
    config = resolve(["--dataset", "mine", "--splits", "folds.json", "--folds", "2"]).config
    held_out = [sorted(fold.splits["held_out"].tolist()) for fold in divide(check_data(config), config)]
    assert held_out == [sorted(names.index(name) for name in part) for part in parts]
    single = check_data(resolve(["--dataset", "mine", "--splits", "folds.json"]).config)
    assert sorted(single.splits["val"]) == held_out[0] and not len(single.splits["test"])
    assert any("fold 1 of 2 is used; --folds 2 trains all" in warning for warning in single.found.warnings)
    wrong = check_data(resolve(["--dataset", "mine", "--splits", "folds.json", "--folds", "3"]).config)
    assert "has 2 folds; expected --folds 2, not 3" in wrong.problems[0]
    Path("splits.json").write_text(json.dumps({"train": ["nobody"], "val": names}))
    assert main(["mine", "--splits", "splits.json"]) == 2
    assert "names are of no image, volume or patient of the data set: nobody" in " ".join(
        capsys.readouterr().out.split()
    )


def test_splits_of_the_annotation_tool(nodules):
    """A YOLO set of two folders is divided as they are, unless a patient is in both or the user says otherwise."""
    names = []
    for number, image in enumerate(sorted(file for file in nodules.rglob("*.png"))):
        split = "val" if number < 4 else "train"
        for folder, text in (("images", None), ("labels", "0 0.3 0.3 0.6 0.3 0.6 0.6")):
            place = Path("yolo", split, folder, image.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place) if text is None else place.with_suffix(".txt").write_text(text)
        names += [image.name] * (split == "val")
    Path("yolo", "data.yaml").write_text("names: [nodule]\n")
    words = ["--dataset", "yolo", "--near_duplicates", "ignore"]
    checked = check_data(resolve(words).config)
    assert sorted(Path(each["file_name"]).name for each in checked.split_lists()["val"]) == sorted(names)
    assert not len(checked.splits["test"])
    assert any("splits of the annotation tool are used: train 16, val 4" in each for each in checked.found.warnings)
    chosen = check_data(resolve([*words, "--splits", "patient"]).config)
    assert len(chosen.splits["test"]) and not any("annotation tool" in each for each in chosen.found.warnings)
    mixed = check_data(resolve([*words, "--patient_pattern", r"(\d)\.png"]).config)
    assert any("annotation tool (train 16, val 4, test 0 images) are not used" in each for each in mixed.found.warnings)
