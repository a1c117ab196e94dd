"""The whole command on an untrained network."""

import csv
import shutil

import pytest
from PIL import Image

from experiments.cli import main
from experiments.external import suggestion
from mrcnn.config import ModelConfig
from mrcnn.data import read_dataset

pytestmark = pytest.mark.usefixtures("eager")
TINY = {
    "class_names": ("iso", "hypo"), "image_size": 64, "backbone": "small", "fpn_channels": 16, "head_width": 32,
    "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30, "max_detections": 5,
    "score_threshold": 0.01, "channels": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(phantom_folder, empty_store, tmp_path_factory):
    """A model file, and unlabeled images: eight phantoms, one of them mirrored once more, and a broken file."""
    from mrcnn.models import MaskRCNN

    folder = tmp_path_factory.mktemp("suggest")
    (folder / "mlflow.db").write_bytes(empty_store)
    MaskRCNN(ModelConfig(**TINY)).save(folder / "tiny.keras")
    (folder / "new").mkdir()
    for number, path in enumerate(sorted((phantom_folder / "images").iterdir())[:8]):
        shutil.copy(path, folder / f"new/{number}.png")
    picture = Image.open(folder / "new/3.png")
    picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "new/mirrored.png")
    (folder / "new/broken.png").write_bytes(b"no picture")
    return folder


def test_images_are_ranked_and_come_back_with_pre_annotations(folder, phantom_folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    known = read_dataset(phantom_folder)
    names = sorted(record.path.name for record in known.records)
    seen = known.subset(
        index for index, record in enumerate(known.records) if names.index(record.path.name) in (0, 9, 10)
    )
    monkeypatch.setattr(suggestion, "_training_images", lambda model, console: seen)
    assert main(["suggest", "tiny.keras", "new", "--images", "20", "--output", "out"]) == 2
    printed = capsys.readouterr()
    assert "broken.png: expected a readable" in printed.err
    assert "note: 1 near-duplicate of a training image is left out" in printed.out
    assert "Suggested: 7 of 10 images, as LabelMe in" in printed.out
    rows = list(csv.DictReader((folder / "out/suggestions.csv").open()))
    assert [row["rank"] for row in rows] == list("1234567")
    listed = [row["image"] for row in rows]
    assert len({"3.png", "mirrored.png"} & set(listed)) == 1
    assert {*listed, "3.png", "mirrored.png"} == {"mirrored.png", *(f"{number}.png" for number in range(1, 8))}
    pair = next(row for row in rows if row["image"] in ("3.png", "mirrored.png"))
    assert {pair["image"], pair["near_duplicates_left_out"]} == {"3.png", "mirrored.png"}
    assert all(0 < float(row["distance_to_training"]) <= 2 for row in rows)
    dataset = read_dataset(folder / "out", "labelme")
    assert sorted(record.file_name for record in dataset.records) == sorted(listed)
    assert set(dataset.class_names) <= {"iso", "hypo"}
    assert main(["suggest", "tiny.keras", "new", "--output", "out"]) == 2
    assert "out: contains files; expected a new or an empty folder" in capsys.readouterr().err


def test_without_the_training_images_a_note_says_what_ranks(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["suggest", "tiny.keras", "new", "--images", "2", "--to", "cvat", "--output", "two"]) == 2
    assert "so images are ranked by uncertainty and by how unlike each other they are" in capsys.readouterr().out
    assert len(read_dataset(folder / "two", "cvat")) == 2
