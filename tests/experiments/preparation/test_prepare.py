"""Films with side-less masks to a data set with sides, from the command."""

import csv
import json
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from experiments import cli
from experiments.commands.prepare import main
from experiments.preparation.chest_xrays import read_films
from mrcnn.data import read_dataset
from mrcnn.errors import InputError
from mrcnn.phantoms import write_films
from mrcnn.phantoms.chest import CLASS_NAMES, make_images

COUNT = 8


@pytest.fixture(scope="module")
def written_films(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films"), images=COUNT, seed=2)


@pytest.fixture
def films(written_films, tmp_path):
    """A copy of the films, which a test may change."""
    return Path(shutil.copytree(written_films, tmp_path / "films"))


@cache
def phantoms():
    """Return the samples of the films."""
    return list(make_images(COUNT, 2))


def rewrite(folder, change):
    """Changes each row of index.csv in place."""
    file = folder / "index.csv"
    rows = list(csv.DictReader(file.open()))
    for number, row in enumerate(rows):
        change(number, row)
    with file.open("w", newline="") as out:
        table = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        table.writeheader()
        table.writerows(rows)


def run(folder, tmp_path, *options):
    output = tmp_path / "out"
    assert main(["--dataset", str(folder), "--output", str(output), *options]) == 0
    return output, json.loads((output / "report.json").read_text())


def test_sides_are_those_of_the_phantoms(films, tmp_path, capsys):
    output, report = run(films, tmp_path)
    dataset = read_dataset(output)
    assert dataset.class_names == CLASS_NAMES
    for sample, true in zip(dataset, phantoms(), strict=True):
        assert sample.patient_id == true.patient_id
        np.testing.assert_array_equal(sample.image, true.image)
        assert sorted(sample.class_ids) == sorted(true.class_ids)
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            np.testing.assert_array_equal(mask, true.masks[true.class_ids == class_id][0])
    assert report["counts"]["undecided"] == 0 and report["notice"] == "Research use only"
    assert len(list(csv.DictReader((output / "report.csv").open()))) == COUNT
    assert Image.open(output / "sides.png").width > 256
    assert f"--dataset {output}" in capsys.readouterr().out


def test_mirrored_films_by_table_option_and_orientation(films, tmp_path):
    def change(number, row):
        for name in ("image", "mask"):
            path = films / row[name]
            Image.fromarray(np.array(Image.open(path))[:, ::-1]).save(path)
        if number % 2:
            row["orientation" if number % 4 == 1 else "mirrored"] = "R\\F" if number % 4 == 1 else "true"

    rewrite(films, change)
    output, _ = run(films, tmp_path, "--mirrored", "true")
    for sample, true in zip(read_dataset(output), phantoms(), strict=True):
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            np.testing.assert_array_equal(mask, true.masks[true.class_ids == class_id][0][:, ::-1])


def test_what_cannot_be_decided_is_left_out_and_told(films, tmp_path, capsys):
    def change(number, row):
        if number == 0:
            row["view"] = "L"
        if number == 1:
            row["orientation"] = "F\\L"
        if number == 2:
            row["orientation"], row["mirrored"] = "L\\F", "yes"
        if number == 3:
            for name in ("image", "mask"):
                path = films / row[name]
                Image.fromarray(np.array(Image.open(path))[::-1, ::-1]).save(path)

    rewrite(films, change)
    output, report = run(films, tmp_path)
    reasons = [film["reason"] for film in report["films"]]
    assert "'L' is not frontal" in reasons[0] and "F\\\\L" in reasons[1] and "mirrored=true" in reasons[2]
    assert reasons[3] and not any(reasons[4:])
    assert report["counts"]["undecided"] == 4
    assert len(read_dataset(output)) == COUNT - 4
    assert "undecided and left out 4" in capsys.readouterr().out


def test_folders_without_a_table_and_joined_lungs(films, tmp_path):
    (films / "index.csv").unlink()
    for path in (films / "masks").glob("*.png"):
        mask = np.array(Image.open(path))
        rows = np.flatnonzero(mask.any(1))
        for y in rows[len(rows) // 2 : len(rows) // 2 + 6]:
            both = np.flatnonzero(mask[y])
            mask[y, both[0] : both[-1] + 1] = 255
        Image.fromarray(mask).save(path.with_name(path.stem + "_mask.png"))
        path.unlink()
    output, report = run(films, tmp_path)
    true = phantoms()
    assert report["counts"]["parted"] == sum(len(sample.class_ids) == 2 for sample in true)
    for sample, other in zip(read_dataset(output, patient_pattern=r"(\d+)_"), true, strict=True):
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            drawn = other.masks[other.class_ids == class_id][0]
            assert 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) > 0.95


def test_images_alone_with_a_model(films, tmp_path, monkeypatch):
    from mrcnn.detections import Detections

    true = {sample.image.tobytes(): sample for sample in phantoms()}

    class Model:
        """Draws the true masks, each as an instance, and at a low score nonsense."""

        def detect(self, images):
            found = []
            for image in images:
                masks = [*true[image.tobytes()].masks, np.ones(image.shape[:2], bool)]
                scores = np.float32([0.9] * (len(masks) - 1) + [0.2])
                count = len(masks)
                found.append(Detections(np.zeros((count, 4)), scores, np.ones(count, int), np.stack(masks)))
            return found

    import mrcnn.models

    monkeypatch.setattr(mrcnn.models, "load", lambda path, kinds: Model())
    (tmp_path / "lung.keras").write_text("")
    output, report = run(films / "images", tmp_path, "--model", str(tmp_path / "lung.keras"))
    assert report["counts"]["films"] == COUNT and report["counts"]["undecided"] == 0
    for sample, other in zip(read_dataset(output, patient_pattern=r"(\d+)_"), true.values(), strict=True):
        assert sorted(sample.class_ids) == sorted(other.class_ids)


def test_the_orientation_of_a_dicom_file(tmp_path):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    header = FileDataset(str(tmp_path / "film.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    header.PatientOrientation = ["R", "F"]
    header.save_as(tmp_path / "film.dcm")
    (film,) = read_films(tmp_path, with_masks=False)
    assert film.hanging(False) == (True, None)
    (tmp_path / "film.dcm").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"film\.dcm: expected a DICOM file"):
        read_films(tmp_path, with_masks=False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--task", "thyroid"], "nothing to prepare"),
        (["--sides", "yes"], "--sides: no such option"),
        (["--mirrored", "maybe"], "expected true or false"),
        (["--confidence", "2"], "expected a number from 0 to 1"),
        (["--model", "missing.keras"], r"expected a \.keras file"),
        (["--output", "films"], "contains other files"),
    ],
)
def test_bad_options(films, tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.chdir(tmp_path)
    assert main(["--dataset", "films", *options]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_bad_films(films, tmp_path, capsys):
    rewrite(films, lambda number, row: row.update(mask="masks/gone.png" if number == 0 else row["mask"]))
    assert main(["--dataset", str(films), "--output", str(tmp_path / "out")]) == 2
    assert "index.csv line 2: 'gone.png' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (films / "index.csv").write_text("picture\na.png\n")
    assert main(["--dataset", str(films)]) == 2
    assert "expected one called image" in capsys.readouterr().err
    assert main(["--dataset", str(films / "images")]) == 2
    assert "--model" in capsys.readouterr().err


def test_a_mask_of_another_size(films, tmp_path, capsys):
    path = next((films / "masks").glob("*.png"))
    Image.fromarray(np.array(Image.open(path))[1:]).save(path)
    assert main(["--dataset", str(films), "--output", str(tmp_path / "out")]) == 2
    assert "pixels; its image has" in capsys.readouterr().err


def test_an_earlier_output_is_replaced_whole(films, tmp_path):
    output, _ = run(films, tmp_path)
    (output / "images" / "stray.png").write_text("")
    run(films, tmp_path)
    assert not (output / "images" / "stray.png").exists()


def test_without_a_dataset_phantoms_are_prepared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.commands.prepare.PHANTOM_FILMS", 4)
    assert cli.main(["prepare", "--output", "out"]) == 0
    assert len(read_dataset(tmp_path / "out")) == 4
    assert cli.main(["prepare", "--help"]) == 0
    assert "--mirrored" in capsys.readouterr().out


def test_patients_of_the_table_in_one_form_and_without_files_of_the_system(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    (tmp_path / "index.csv").write_text("image,Patient ID,view\na.png,P03,PA\nb.png,Ｐ０３ ,PA\nc.png,nan,\n", "utf-8")
    facts = [film.facts for film in read_films(tmp_path, with_masks=False)]
    assert facts == [{"patient_id": "P03", "view": "PA"}] * 2 + [{}]
    (tmp_path / "index.csv").unlink()
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    assert len(read_films(tmp_path, with_masks=False)) == 3


def test_jpeg_masks_are_refused_by_name(films, capsys):
    (films / "index.csv").unlink()
    for path in (films / "masks").glob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    assert main(["--dataset", str(films), "--output", str(films.parent / "out")]) == 2
    told = capsys.readouterr().err
    assert f"{COUNT} problems" in told and "JPEG changes the values of a mask" in told
    assert not (films.parent / "out").exists()


def test_masks_that_were_jpeg_count_from_half_with_a_warning(films, tmp_path, capsys):
    for path in (films / "masks").glob("*.png"):
        Image.open(path).convert("L").save(tmp_path / "lossy.jpg", quality=75)
        Image.open(tmp_path / "lossy.jpg").save(path)
    output, _ = run(films, tmp_path)
    assert f"warning: {COUNT} masks have blended edges" in capsys.readouterr().out
    for sample, true in zip(read_dataset(output), phantoms(), strict=True):
        assert abs(int(sample.masks.sum()) / int(true.masks.sum()) - 1) < 0.005


def test_masks_hold_values_and_no_shades(films, tmp_path):
    """Photometric interpretation 0 shows the lungs black; the values are the same."""

    def change(_, row):
        mask = np.array(Image.open(films / row["mask"]).convert("L")) > 0
        (films / row["mask"]).unlink()
        row["mask"] = row["mask"].replace(".png", ".tif")
        tifffile.imwrite(films / row["mask"], mask)

    rewrite(films, change)
    output, _ = run(films, tmp_path)
    for sample, true in zip(read_dataset(output), phantoms(), strict=True):
        assert sample.masks.sum() == true.masks.sum()


def test_films_of_one_name_in_two_folders_stay_apart(films, tmp_path):
    def change(number, row):
        if number < 2:
            (films / row["image"]).rename(films / ("same.png" if number else "images/same.png"))
            row["image"] = "same.png" if number else "images/same.png"

    rewrite(films, change)
    output, _ = run(films, tmp_path)
    for sample, true in zip(read_dataset(output), phantoms(), strict=True):
        np.testing.assert_array_equal(sample.image, true.image)


@pytest.mark.parametrize("column", ["image", "mask"])
def test_paths_that_leave_the_folder_and_films_that_stand_twice(films, column):
    def change(number, row):
        if number == 0:
            row[column] = "../elsewhere.png"
        if number == 1:
            row[column] = str(films.parent / "another.png")
        if number == 3:
            row["image"] = f"masks/../{previous[-1]}"
        previous.append(row["image"])

    previous = []
    rewrite(films, change)
    with pytest.raises(InputError) as caught:
        read_films(films, with_masks=True)
    told = str(caught.value)
    assert "3 problems" in told
    assert "line 2: '../elsewhere.png' leaves the folder" in told and "line 3:" in told
    assert "line 5:" in told and "occurs in line 4 too" in told
