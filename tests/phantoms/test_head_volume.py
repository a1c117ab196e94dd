"""Phantoms of heads: what a seed decides, what nests in what, and what the readers make of the files."""

import csv

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, label

from mrcnn.data import read_dataset
from mrcnn.data.readers.lgg import read as read_lgg
from mrcnn.data.readers.volumes.brats import label_regions
from mrcnn.phantoms import brats, lgg, write_dataset


@pytest.fixture(scope="module")
def heads():
    return list(brats.make_cases(6, seed=2))


@pytest.fixture(scope="module")
def low_grade():
    return list(lgg.make_cases(4, seed=2))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_dataset("brats", tmp_path_factory.mktemp("phantoms") / "brats", images=3, seed=2)


def test_a_longer_series_begins_with_the_shorter(heads, low_grade):
    for one, other in zip(brats.make_cases(2, seed=2), heads, strict=False):
        np.testing.assert_array_equal(one.labels, other.labels)
        assert all((one.volumes[name] == other.volumes[name]).all() for name in brats.CONTRASTS)
    np.testing.assert_array_equal(next(lgg.make_cases(1, seed=2)).slices, low_grade[0].slices)
    assert (next(brats.make_cases(1, seed=3)).labels != heads[0].labels).any()


def test_the_tumor_lies_in_the_brain_and_its_parts_in_each_other(heads):
    for case in heads:
        brain = case.volumes["flair"] > 0
        assert all(((volume > 0) == brain).all() for volume in case.volumes.values())
        whole, core, enhancing = label_regions(case.labels, brats.LABEL_CODES)
        assert not (whole & ~brain).any()
        assert 300 < core.sum() + whole.sum() < 0.3 * brain.sum()
        assert (whole & ~core).any() and not (core & ~whole).any() and not (enhancing & ~core).any()
    assert any((case.labels == 4).any() for case in heads)


def test_sequences_show_what_they_show_in_patients(heads):
    for case in heads:
        whole, core, enhancing = label_regions(case.labels, brats.LABEL_CODES)
        tissue = binary_erosion(case.volumes["t1"] > 0, iterations=4) & ~whole

        def brightness(name, where, case=case, tissue=tissue):
            return np.median(case.volumes[name][where]) / np.median(case.volumes[name][tissue])

        edema = whole & ~core
        assert brightness("flair", edema) > 1.3 and brightness("t2", edema) > 1.3 and brightness("t1", edema) < 0.95
        if enhancing.any():
            assert brightness("t1ce", enhancing) > 1.3 > 1.1 > brightness("t1", enhancing)


def test_the_reader_gets_back_what_was_made(cases, heads, tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    dataset = read_dataset(cases, "volumes", min_area=1)
    assert dataset.class_names == brats.CLASS_NAMES and not dataset.warnings
    assert {record.volume.label_codes for record in dataset.records} == {brats.LABEL_CODES}
    assert len({record.patient_id for record in dataset.records}) == 3
    for index, record in enumerate(dataset.records):
        case = heads[int(record.patient_id[-3:]) - 1]
        expected = label_regions(case.labels[record.place.index], brats.LABEL_CODES)
        found = np.zeros_like(expected)
        for class_id, mask in zip(record.class_ids, dataset.masks(index), strict=True):
            found[class_id - 1] |= mask
        np.testing.assert_array_equal(found, expected)
    step, row, column = brats.SPACING_MM
    assert dataset[0].image.shape == (*brats.SHAPE[1:], 4)
    assert dataset[0].spacing_mm == pytest.approx((row, column)) and dataset[0].place.step_mm == pytest.approx(step)


def test_slices_with_masks_and_their_table(tmp_path, low_grade):
    folder = write_dataset("lgg", tmp_path / "lgg", images=2, seed=2)
    dataset = read_lgg(folder, min_area=1)
    assert len(dataset) == sum(len(case.slices) for case in low_grade[:2])
    for index, record in enumerate(dataset.records):
        case = low_grade[int(record.patient_id[-3:]) - 1]
        np.testing.assert_array_equal(dataset.masks(index).any(axis=0), case.masks[record.place.index - 1])
        np.testing.assert_array_equal(dataset[index].image, case.slices[record.place.index - 1])
    with (folder / "data.csv").open() as table:
        marks = {row["image_path"]: row["mask"] for row in csv.DictReader(table)}
    assert marks == {record.file_name: str(int(record.label == "tumor")) for record in dataset.records}
    assert {"0", "1"} == set(marks.values())


def test_low_grade_tumors_are_one_bright_patch_in_flair(low_grade):
    for case in low_grade:
        pieces, count = label(case.masks)
        assert np.bincount(pieces.ravel())[1:].max() > 0.9 * case.masks.sum() and count < 12
        green = case.slices[..., 1]
        head = binary_erosion(green > 60, iterations=3) & ~case.masks
        assert np.median(green[case.masks]) > 1.25 * np.median(green[head])
