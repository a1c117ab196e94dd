"""NIfTI files as stacks, against arrays whose every axis is known."""

import itertools

import nibabel
import numpy as np
import pytest

from mrcnn.data.io.nifti import open_nifti
from mrcnn.errors import InputError


def turned(array, axes):
    """`array` (columns to the left, rows to the back, slices up) stored along `axes`, such as RIP, and its affine."""
    there = nibabel.orientations.axcodes2ornt(tuple(axes))
    lps = nibabel.Nifti1Image(array, np.diag([-0.5, -0.75, 3.0, 1.0]))
    image = lps.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(lps.affine), there)
    )
    assert nibabel.aff2axcodes(image.affine) == tuple(axes)
    return np.asarray(image.dataobj), image.affine


ORIENTATIONS = [
    "".join(order) for pick in itertools.product("LR", "PA", "SI") for order in itertools.permutations(pick)
]


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_stack_is_the_same_however_it_lies_in_the_file(tmp_path, write_nifti, axes):
    lps = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2)
    file = open_nifti(write_nifti(tmp_path / "a.nii.gz", *turned(lps, axes)))
    assert file.shape == (2, 3, 4)
    assert file.spacing_mm == pytest.approx((3.0, 0.75, 0.5))
    np.testing.assert_array_equal(file.stack(), lps.transpose(2, 1, 0))
    np.testing.assert_array_equal(file.from_stack(file.stack()), np.asarray(file.image.dataobj))


def test_stated_scales_are_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -1)
    image.to_filename(tmp_path / "a.nii")
    assert open_nifti(tmp_path / "a.nii").stack().max() != 23
    np.testing.assert_array_equal(
        np.sort(open_nifti(tmp_path / "a.nii").stack().ravel()),
        np.sort(nibabel.load(tmp_path / "a.nii").get_fdata().ravel()),
    )


def test_a_fourth_axis_of_one_is_no_fourth_axis(tmp_path, write_nifti):
    file = open_nifti(write_nifti(tmp_path / "a.nii", np.zeros((4, 3, 2, 1), np.int16)))
    assert file.stack().shape == (2, 3, 4)
    assert file.from_stack(file.stack()).shape == (4, 3, 2, 1)


def test_bad_files_are_named(tmp_path, write_nifti):
    for name, content in (("empty.nii", b""), ("text.nii.gz", b"not a volume")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: expected a readable NIfTI"):
            open_nifti(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.nii: no such file"):
        open_nifti(tmp_path / "none.nii")
    with pytest.raises(InputError, match=r"series\.nii: has shape \(4, 3, 2, 5\)"):
        open_nifti(write_nifti(tmp_path / "series.nii", np.zeros((4, 3, 2, 5), np.int16)))
    flat = write_nifti(tmp_path / "flat.nii", np.zeros((4, 3, 2), np.int16))
    content = bytearray(flat.read_bytes())
    content[296:312] = bytes(16)  # srow_y of the header (nifti1.h): the second axis leads nowhere
    flat.write_bytes(content)
    with pytest.raises(InputError, match=r"flat\.nii: its affine"):
        open_nifti(flat)


def test_a_file_cut_short_is_named(tmp_path, write_nifti):
    voxels = np.random.default_rng(0).integers(0, 999, (40, 40, 40)).astype(np.int16)
    for name in ("short.nii", "short.nii.gz"):
        path = write_nifti(tmp_path / name, voxels)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(InputError, match=rf"{name}: expected a readable NIfTI"):
            open_nifti(path).stack()


def test_voxels_that_are_no_numbers_are_named(tmp_path, write_nifti):
    with pytest.raises(InputError, match=r"nan\.nii: voxels are NaN"):
        open_nifti(write_nifti(tmp_path / "nan.nii", np.full((4, 3, 2), np.nan, np.float32))).stack()
