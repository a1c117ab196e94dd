"""The reader of the brain tumors of Cheng et al."""

import h5py
import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SIZE = 40, 60
TUMOR = np.zeros(SIZE, np.uint8)
TUMOR[10:30, 5:50] = 1
PIXELS = np.random.default_rng(0).integers(-5, 3000, SIZE).astype(np.int16)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file as MATLAB does, columns first; None leaves a field out."""
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))

    def write(name, **changes):
        fields = {"image": PIXELS, "tumorMask": TUMOR, "label": np.array([[2.0]]),
                  "PID": np.array([[ord(letter) for letter in "MR017F"]], np.uint16)} | changes  # fmt: skip
        path = tmp_path / "set" / "brainTumorDataPublic_1-766" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w", userblock_size=512) as file:
            for field, values in fields.items():
                if values is not None:
                    file[f"cjdata/{field}"] = values.T
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64")
        return tmp_path / "set"

    return write


def test_slices_with_their_patients(write):
    write("1.mat")
    folder = write("2.mat", label=np.array([[3.0]]), PID=np.array([[55, 56]], np.uint16))
    with h5py.File(folder / "cvind.mat", "w") as file:
        file["cvind"] = [1, 2]
    dataset = read_dataset(folder)
    assert dataset.class_names == ("meningioma", "glioma", "pituitary tumor")
    assert [(each.patient_id, each.label, each.class_ids.tolist()) for each in dataset.records] == [
        ("MR017F", "glioma", [2]), ("78", "pituitary tumor", [3])
    ]  # fmt: skip
    assert dataset.records[0].file_name == "brainTumorDataPublic_1-766/1.mat"
    np.testing.assert_array_equal(dataset[0].image[..., 0], PIXELS.astype(int) - PIXELS.min())
    np.testing.assert_array_equal(dataset[0].masks[0], TUMOR)
    assert "MATLAB files have no cjdata and are passed over: cvind.mat" in " ".join(dataset.warnings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PID": None}, "PID"),
        ({"image": PIXELS[:9]}, "its tumorMask is"),
        ({"image": np.full(SIZE, np.nan)}, "values that 16 bits cannot"),
        ({"tumorMask": np.full(SIZE, 3, np.uint8)}, "other values than 0 and 1"),
        ({"label": np.array([[4.0]])}, r"its label is \[4\.0\], none of 1, 2 and 3"),
        ({"label": np.array([1.0])}, "its label is no matrix of numbers"),
    ],
)
def test_damaged_files_are_named(write, changes, message):
    write("1.mat")
    folder = write("2.mat", **changes)
    with pytest.raises(InputError, match=rf"brainTumorDataPublic_1-766/2\.mat: .*{message}"):
        read_dataset(folder)
    assert [each.file_name[-5:] for each in read_dataset(folder, on_error="skip").records] == ["1.mat"]
