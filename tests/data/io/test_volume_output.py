"""Label maps on disk, read again by nibabel alone."""

import nibabel
import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.io.nifti import write_label_map
from mrcnn.data.readers.volumes.brats import label_map
from mrcnn.errors import InputError


def label_map_of(dataset, name):
    """The label map of a case from the masks of its slices, and its volume."""
    mine = [index for index, record in enumerate(dataset.records) if record.place.volume == name]
    volume = dataset.records[mine[0]].volume
    regions = np.zeros((3, *volume.shape), bool)
    for index in mine:
        record = dataset.records[index]
        for class_id, mask in zip(record.class_ids, dataset.masks(index), strict=True):
            regions[class_id - 1, record.place.index] |= mask
    return label_map(regions, volume.label_codes), volume


def test_lies_voxel_for_voxel_on_its_source(tmp_path, write_nifti):
    # Stored head first, back to front, left to right, oblique, with a scale that must not be inherited.
    affine = np.array([[0, 0.1, 0.8, -30], [0.1, 0.9, 0, 20], [-2.5, 0, 0.1, 7], [0, 0, 0, 1.0]])
    source = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), affine)
    source.header.set_slope_inter(0.1, 3)
    source.header["cal_max"] = 900
    source.set_qform(affine, code=1)
    source.to_filename(tmp_path / "source.nii.gz")
    labels = np.random.default_rng(0).integers(0, 5, (5, 6, 7)).astype(np.uint8)
    write_label_map(tmp_path / "out.nii.gz", labels, tmp_path / "source.nii.gz")

    written = nibabel.load(tmp_path / "out.nii.gz")
    stored = nibabel.load(tmp_path / "source.nii.gz")
    np.testing.assert_array_equal(written.affine, stored.affine)
    assert written.shape == stored.shape and written.get_data_dtype() == np.uint8
    assert (written.header["qform_code"], written.header["sform_code"]) == (
        stored.header["qform_code"],
        stored.header["sform_code"],
    )
    assert b"research use only" in written.header["descrip"].tobytes()
    # (slices up, rows to the back, columns to the left): the first axis runs down, the second to the front, the third
    # to the right.
    assert nibabel.aff2axcodes(affine) == ("I", "A", "R")
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels[::-1, ::-1, ::-1])


def test_another_size_is_refused(tmp_path, write_nifti):
    path = write_nifti(tmp_path / "a.nii", np.zeros((4, 3, 2), np.int16))
    with pytest.raises(InputError, match=r"a\.nii: has \(2, 3, 4\) slices.*expected \(4, 3, 2\)"):
        write_label_map(tmp_path / "out.nii", np.zeros((4, 3, 2), np.uint8), path)


def test_reader_and_writer_undo_each_other(write_case, head, tmp_path):
    dataset = read_dataset(write_case("a_1"), "volumes", layout="brats", min_area=1)
    labels, volume = label_map_of(dataset, "a_1")
    write_label_map(tmp_path / "out.nii.gz", labels, volume.files[0])
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj), head[1])


@pytest.mark.parametrize("name", ["BraTS-GLI-00000-000", "Brats18_2013_21_1", "deepmedic_brats_2013_pat0001_1"])
def test_real_label_maps_come_back(shared_data, tmp_path, name):
    dataset = read_dataset(shared_data / "brats", "volumes", min_area=1)
    labels, volume = label_map_of(dataset, name)
    write_label_map(tmp_path / "out.nii.gz", labels, volume.files[0])
    written, original = (
        nibabel.load(tmp_path / "out.nii.gz"), nibabel.load(shared_data / "brats" / name / f"{name}_seg.nii.gz")
    )  # fmt: skip
    expected = original.get_fdata()
    if name.startswith("deepmedic"):
        expected[expected == 3] = 1  # one region with necrosis
    np.testing.assert_array_equal(written.get_fdata(), expected)
    np.testing.assert_allclose(written.affine, original.affine)


def test_nothing_that_the_volume_says_of_its_patient_is_in_the_map(tmp_path):
    source = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.eye(4))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        source.header[field] = b"Musterfrau"
    for code in (2, 6):  # DICOM, a comment
        source.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, b"Musterfrau^Erika"))
    source.to_filename(tmp_path / "source.nii")
    write_label_map(tmp_path / "out.nii", np.zeros((7, 6, 5), np.uint8), tmp_path / "source.nii")
    assert b"Musterfrau" in (tmp_path / "source.nii").read_bytes()
    assert b"Musterfrau" not in (tmp_path / "out.nii").read_bytes()
