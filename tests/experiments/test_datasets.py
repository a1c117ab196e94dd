import json
from pathlib import Path

import pytest

from experiments.config import DataOptions
from experiments.datasets import cache_folder, dataset_name, dataset_path, open_dataset
from mrcnn.errors import InputError


def test_phantoms_are_made_once_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    options = DataOptions(phantom_images=10)
    first = open_dataset(options)
    assert len(first) == 10
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")}
    assert open_dataset(options).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.png")} == written
    assert dataset_name(options) == "thyroid phantoms"


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"file.*MRCNN_CACHE"):
        open_dataset(DataOptions(phantom_images=10))


def test_the_cache_is_in_the_home_folder_unless_said_otherwise(monkeypatch):
    monkeypatch.delenv("MRCNN_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "medmrcnn"
    monkeypatch.setenv("MRCNN_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


def test_a_persons_own_data_are_found_from_where_they_stand(tmp_path, monkeypatch, phantom_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    (tmp_path / "mine").symlink_to(phantom_folder)
    assert dataset_path("mine") == phantom_folder.resolve()
    assert len(open_dataset(DataOptions(dataset="mine"))) == len(list((phantom_folder / "images").iterdir()))
    assert dataset_name(DataOptions(dataset="mine/annotations.json")) == phantom_folder.name
    with pytest.raises(InputError, match=r"--data\.dataset yours: expected .*does not exist"):
        dataset_path("yours")


def test_a_spacing_is_given_to_images_without_one(phantom_folder, tmp_path):
    content = json.loads((phantom_folder / "annotations.json").read_text())
    own = content["images"][0]["spacing_mm"]
    for image in content["images"][1:]:
        del image["spacing_mm"]
    file = phantom_folder / "spaced.json"
    file.write_text(json.dumps(content))
    for given, pair in ((0.2, (0.2, 0.2)), ((0.2, 0.1), (0.2, 0.1))):
        dataset = open_dataset(DataOptions(dataset=str(file), spacing_mm=given))
        assert [record.spacing_mm for record in dataset.records] == [tuple(own)] + [pair] * (len(dataset) - 1)
        assert dataset[1].spacing_mm == pair
    file.unlink()
