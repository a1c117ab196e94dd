import json
import re
from pathlib import Path
from typing import get_args

import pytest

from experiments.config.resolve import resolve
from experiments.config.schema import DataOptions
from experiments.preparation.datasets import cache_folder, dataset_name, dataset_path, open_dataset
from mrcnn.data.annotation_formats import FORMATS
from mrcnn.errors import InputError
from mrcnn.phantoms import PHANTOM_KINDS, write_dataset


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


def test_every_reader_can_be_asked_for_and_told_its_options():
    asked = get_args(DataOptions.model_fields["reader"].annotation)
    assert set(asked) == {"auto", *FORMATS}
    for name, reader in FORMATS.items():
        if reader.options is not None:
            assert DataOptions.model_fields[name].annotation is reader.options


def test_every_kind_of_phantoms_can_be_asked_for():
    assert set(get_args(DataOptions.model_fields["phantoms"].annotation)) == set(PHANTOM_KINDS)


def test_the_form_is_found_and_its_reader_told_what_was_said(tmp_path):
    folder = write_dataset("brain_tumor", tmp_path / "slices", images=10, seed=1)
    data = open_dataset(resolve(["--task", "brain_tumor", "--dataset", str(folder)]).config.data)
    assert data.class_names == ("tumor",) and len({record.patient_id for record in data.records}) < 10
    for file in folder.glob("*/via_region_data.json"):
        file.write_text(re.sub(r'"region_attributes": \{[^}]*\}', '"region_attributes": {}', file.read_text()))
    assert open_dataset(DataOptions(dataset=str(folder), via={"class_name": "lesion"})).class_names == ("lesion",)
    with pytest.raises(InputError, match="annotations: expected a list"):
        open_dataset(DataOptions(dataset=str(folder / "train"), reader="coco"))


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


def test_images_without_neighboring_slices_are_refused_for_models_that_need_them(phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    line = r"data\.context_slices=1: the images of nodules have no neighboring slices; expected volumes .*, or data\."
    with pytest.raises(InputError, match=line):
        open_dataset(DataOptions(dataset=str(phantom_folder), context_slices=1))
    assert len(open_dataset(DataOptions(phantoms="lgg", phantom_images=10, context_slices=1)))
