"""The reader of slices with masks beside them, on a few tiny patients and on the real ones where they are."""

import numpy as np
import pytest
import tifffile

from mrcnn.data import read_dataset
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError


@pytest.fixture
def write_slices(tmp_path):
    """Writes slices of a patient with a mask each, (H, W) bool; returns the folder of the set."""

    def write(patient, masks, folder=tmp_path / "kaggle_3m"):
        (folder / patient).mkdir(parents=True)
        for number, mask in enumerate(masks, start=1):
            picture = np.full((*mask.shape, 3), number, np.uint8)
            tifffile.imwrite(folder / patient / f"{patient}_{number}.tif", picture, photometric="rgb")
            tifffile.imwrite(folder / patient / f"{patient}_{number}_mask.tif", mask.astype(np.uint8) * 255)
        return folder

    return write


def masks(count=11):
    """Slice 2 has two pieces, which touch at no corner, slice 10 a single pixel."""
    drawn = np.zeros((11, 9, 9), bool)
    drawn[1, 0:3, 0:4] = drawn[1, 3, 4] = drawn[1, 6:9, 5:9] = True
    drawn[9, 4, 4] = True
    return drawn[:count]


def test_reads_every_slice_in_order(write_slices):
    folder = write_slices("TCGA_1", masks())
    write_slices("TCGA_2", masks()[:1])
    (folder / "data.csv").write_text("Patient,age\nTCGA_1,40\n")
    dataset = read_dataset(folder, "lgg")
    assert dataset.class_names == ("tumor",)
    assert [record.place for record in dataset.records] == [
        *[SlicePosition("TCGA_1", number) for number in range(1, 12)],
        SlicePosition("TCGA_2", 1),
    ]
    assert [record.patient_id for record in dataset.records] == ["TCGA_1"] * 11 + ["TCGA_2"]
    assert [record.label for record in dataset.records].count("tumor") == 2
    second = dataset[1]
    assert (second.source, second.label) == ("TCGA_1/TCGA_1_2.tif", "tumor")
    assert second.image.shape == (9, 9, 3) and (second.image == 2).all()
    assert dataset.records[1].areas.tolist() == [13, 12]
    assert dataset.records[1].boxes.tolist() == [[0, 0, 5, 4], [5, 6, 9, 9]]
    np.testing.assert_array_equal(second.masks.any(axis=0), masks()[1])
    # The single pixel is no instance, but its slice does show tumor.
    assert (dataset[9].label, len(dataset[9].masks)) == ("tumor", 0)
    assert dataset.warnings == ("pieces of fewer than 10 pixels (min_area) are left out: 3.85% of the marked ones",)


def test_a_copy_of_the_set_is_left_out(write_slices, tmp_path):
    """As in Kaggle's archive; another folder of the same name stays an error."""
    folder = write_slices("TCGA_1", masks(2))
    write_slices("TCGA_1", masks(2), tmp_path / "lgg-mri-segmentation" / "kaggle_3m")
    dataset = read_dataset(tmp_path)
    assert [record.file_name for record in dataset.records] == [f"kaggle_3m/TCGA_1/TCGA_1_{k}.tif" for k in (1, 2)]
    assert "left out: lgg-mri-segmentation/kaggle_3m/TCGA_1" in " ".join(dataset.warnings)
    tifffile.imwrite(folder / "TCGA_1" / "TCGA_1_1_mask.tif", np.eye(9, dtype=np.uint8))
    with pytest.raises(InputError, match="TCGA_1: 2 folders have this name"):
        read_dataset(tmp_path)


def test_patients_by_a_pattern(write_slices):
    write_slices("TCGA_CS_4941_1996", masks(1))
    folder = write_slices("TCGA_CS_4941_1998", masks(1))
    dataset = read_dataset(folder, "lgg", patient_pattern="TCGA_.._[0-9]+")
    assert {record.patient_id for record in dataset.records} == {"TCGA_CS_4941"}


def test_bad_sets_are_named(write_slices, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_dataset(tmp_path / "none", "lgg")
    with pytest.raises(InputError, match="holds no slices"):
        read_dataset(tmp_path, "lgg")
    folder = write_slices("a", masks(4))
    (folder / "a" / "a_1_mask.tif").unlink()
    (folder / "a" / "scout.tif").write_bytes(b"")
    (folder / "a" / "b_2.tif").write_bytes(b"")
    (folder / "a" / "b_2_mask.tif").write_bytes(b"")
    with pytest.raises(InputError) as error:
        read_dataset(folder, "lgg")
    for part in ("a/a_1.tif: has no mask", "a/scout.tif: expected a name that ends", "a: 2 images of slice 2"):
        assert part in str(error.value)


def test_bad_masks_are_named(write_slices, tmp_path):
    folder = write_slices("a", masks(3))
    tifffile.imwrite(folder / "a" / "a_1_mask.tif", np.arange(81, dtype=np.uint8).reshape(9, 9))
    tifffile.imwrite(folder / "a" / "a_2_mask.tif", np.zeros((9, 8), np.uint8))
    (folder / "a" / "a_3_mask.tif").write_bytes(b"II*")
    with pytest.raises(InputError) as error:
        read_dataset(folder, "lgg")
    for part in (
        "a_1_mask.tif: holds 81 values",
        "a_2_mask.tif: has 8×9 pixels; its image has 9×9",
        "a_3_mask.tif: expected",
    ):
        assert part in str(error.value)


def test_real_slices(shared_data):
    dataset = read_dataset(shared_data / "lgg", "lgg")
    assert len(dataset) == 627
    assert len({record.patient_id for record in dataset.records}) == 16
    # What data.csv, which is not read, says of each slice.
    rows = [line.split(",") for line in (shared_data / "lgg" / "data.csv").read_text().splitlines()[1:]]
    labels = {f"kaggle_3m/{row[1]}": "tumor" if row[3] == "1" else "no_tumor" for row in rows}
    assert {record.file_name: record.label for record in dataset.records} == labels
    for index in (5, 100, 600):
        mask = tifffile.imread(dataset.records[index].path.with_name(f"{dataset.records[index].path.stem}_mask.tif"))
        lost = (mask > 0) & ~dataset[index].masks.any(axis=0)
        assert lost.sum() < 10
