"""The reader of BraTS: tiny heads whose every voxel is known, and the real volumes where they are."""

import pickle

import nibabel
import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.io import volume_files
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError


def read(folder, **options):
    return read_dataset(folder, "volumes", layout="brats", **options)


def test_slices_instances_and_places(write_case):
    dataset = read(write_case("a_1"), min_area=2, label_codes="brats2018")
    assert dataset.class_names == ("whole_tumor", "tumor_core", "enhancing_tumor")
    assert [record.place.index for record in dataset.records] == [1, 2, 3, 4, 5, 6]
    assert [record.class_ids.tolist() for record in dataset.records] == [[], [1], [1, 2, 3], [1, 2], [], []]
    third = dataset.records[2]
    assert third.boxes.tolist() == [[2, 2, 8, 7], [3, 3, 7, 6], [4, 4, 6, 5]]
    assert third.areas.tolist() == [30, 12, 2]
    sample = dataset[2]
    assert sample.place == SlicePosition("a_1", 3, 1.0)
    assert (sample.source, sample.patient_id, sample.spacing_mm) == ("a_1_flair.nii.gz:3", "a_1", (1.0, 1.0))
    assert (sample.image.shape, sample.image.dtype) == ((10, 12, 4), np.float32)
    assert sample.masks.sum(axis=(1, 2)).tolist() == [30, 12, 2]
    # One pixel of 3 × 30 + 1 in the whole tumor, 2 × 12 in the core, 2 that enhance.
    assert dataset.warnings == ("pieces of fewer than 2 pixels (min_area) are left out: 0.85% of the labeled ones",)


def test_small_pieces_count_when_asked_for(write_case):
    dataset = read(write_case("a_1"), min_area=1, label_codes="brats2018")
    assert dataset.records[3].class_ids.tolist() == [1, 1, 2]
    assert dataset.warnings == ()


def test_channels_are_standardised_over_the_brain_of_the_volume(write_case, head):
    folder = write_case("a_1")
    dataset = read(folder, modalities=["t2", "flair"])
    volume = np.stack([dataset[index].image for index in range(len(dataset))], axis=0)
    inside = head[0].transpose(2, 1, 0)[1:7]
    for channel, kind in enumerate(("t2", "flair")):
        raw = nibabel.load(folder / "a_1" / f"a_1_{kind}.nii.gz").get_fdata()
        expected = (raw - raw[raw != 0].mean()) / raw[raw != 0].std()
        np.testing.assert_allclose(volume[..., channel], expected.transpose(2, 1, 0)[1:7], atol=2e-3)
        assert abs(volume[inside][:, channel].mean()) < 1e-3
        assert volume[inside][:, channel].std() == pytest.approx(1, abs=1e-3)


def test_a_normalized_volume_stays_what_it_is(write_case, write_nifti, head):
    folder = write_case("a_1", kinds=())
    voxels = np.where(head[0], np.random.default_rng(0).normal(size=head[0].shape), -3.5).astype(np.float32)
    write_nifti(folder / "a_1" / "a_1_flair_norm.nii.gz", voxels)
    dataset = read(folder)
    image = dataset[2].image[..., 0]
    inside = head[0].transpose(2, 1, 0)[3]
    expected = (voxels - voxels[head[0]].mean()) / voxels[head[0]].std()
    np.testing.assert_allclose(image, expected.transpose(2, 1, 0)[3], atol=5e-3)
    assert len(np.unique(image[~inside])) == 1


@pytest.mark.parametrize(
    ("kinds", "pattern"),
    [
        (("flair", "t1", "t1ce", "t2"), "{}_{}.nii"),
        (("t2f", "t1n", "t1c", "t2w"), "{}-{}.nii.gz"),
        (("Flair", "T1", "T1Gd", "T2"), "{}_{}.nii.gz"),
        (("flair_norm", "t1_norm", "t1ce_norm", "t2_norm"), "{}_{}.nii.gz"),
        (("flair", "t1", "t1ce", "t2"), "{1}.nii.gz"),
    ],
)
def test_names_of_all_years(write_case, kinds, pattern):
    dataset = read(write_case("a_1", kinds=kinds, pattern=pattern))
    assert [path.name for path in dataset.records[0].volume.files] == [pattern.format("a_1", kind) for kind in kinds]


def test_cases_in_one_folder_and_in_folders_of_folders(write_case, tmp_path):
    for name in ("a_1", "b_1"):
        write_case(name, folder=tmp_path / "set")
    write_case("c_1", folder=tmp_path / "set" / "HGG" / "c_1")
    assert sorted({record.place.volume for record in read(tmp_path / "set").records}) == ["a_1", "b_1", "c_1"]
    assert {record.patient_id for record in read(tmp_path / "set", patient_pattern="^[ab]|c").records} == set("abc")


def test_a_label_map_of_another_name_belongs_to_its_folder(write_case, tmp_path, write_nifti, head):
    folder = write_case("BraTS20_Training_355", seg=None)
    write_nifti(folder / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii", head[1])
    assert {record.place.volume for record in read(folder).records} == {"BraTS20_Training_355"}


@pytest.mark.parametrize(
    ("patient", "visits"),
    [
        ("BraTS-GLI-00001", ("-000", "-001")),
        ("UPENN-GBM-00001", ("_11", "_21")),
        ("UCSF-PDGM-0429", ("_nifti", "_FU003d_nifti")),
    ],
)
def test_visits_of_a_patient_stay_together(write_case, patient, visits):
    for visit in visits:
        folder = write_case(patient + visit)
    assert {record.patient_id for record in read(folder).records} == {patient}


def test_a_label_map_of_the_tumor_beside_one_of_the_brain(write_case, write_nifti, head):
    """As in UCSF-PDGM."""
    folder = write_case("UCSF-PDGM-0004_nifti", kinds=("FLAIR", "T1c"), seg=None)
    for name, values in (("tumor", head[1]), ("brain", head[0].astype(np.uint8))):
        write_nifti(folder / "UCSF-PDGM-0004_nifti" / f"UCSF-PDGM-0004_{name}_segmentation.nii.gz", values)
    dataset = read_dataset(folder)
    assert dataset[0].image.shape[2] == 2 and {each.patient_id for each in dataset.records} == {"UCSF-PDGM-0004"}


def test_modalities_that_not_all_cases_have(write_case):
    write_case("a_1")
    folder = write_case("b_1", kinds=("flair", "t1ce"))
    dataset = read(folder)
    assert dataset[0].image.shape[2] == 2
    assert dataset.warnings[0] == "of 2 cases not all have t1 (1), t2 (1); read: flair, t1ce"
    with pytest.raises(InputError, match="b_1: has no t1; expected it"):
        read(folder, modalities=["t1"])


def test_another_channel_order_is_another_volume(write_case):
    folder = write_case("a_1")
    one, other = (read(folder, modalities=order)[2].image for order in (["t1", "t2"], ["t2", "t1"]))
    np.testing.assert_array_equal(one, other[..., ::-1])


def test_digest_follows_the_content_not_the_place(write_case, tmp_path, head, write_nifti):
    folder = write_case("a_1")
    before = read(folder).digest
    folder.rename(tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere").digest == before
    voxels = np.where(head[0], 500, 0).astype(np.int16)
    voxels[5, 5, 3] = 501
    write_nifti(tmp_path / "elsewhere" / "a_1" / "a_1_t1.nii.gz", voxels)
    changed = read(tmp_path / "elsewhere")
    assert changed.digest != before
    assert changed[2].image[5, 5, 1] == changed[2].image[..., 1].max()


def test_travels_to_workers_and_in_parts(write_case):
    dataset = read(write_case("a_1"))
    there = pickle.loads(pickle.dumps(dataset.subset([3, 2])))
    np.testing.assert_array_equal(there[1].image, dataset[2].image)
    assert there[1].place.index == 3


def test_a_damaged_cache_is_made_again(write_case, tmp_path):
    dataset = read(write_case("a_1"))
    before = dataset[2].image
    (kept,) = (tmp_path / "cache" / "volumes").iterdir()
    kept.write_bytes(kept.read_bytes()[:300])
    np.testing.assert_array_equal(dataset[2].image, before)
    assert [path.name for path in (tmp_path / "cache" / "volumes").iterdir()] == [kept.name]


def test_a_case_is_decompressed_once(write_case, tmp_path, monkeypatch):
    folder = write_case("a_1")
    first = read(folder, min_area=2)
    opened, open_nifti = [], volume_files.open_nifti
    monkeypatch.setattr(volume_files, "open_nifti", lambda path: opened.append(path.name) or open_nifti(path))
    again = read(folder, min_area=2)
    assert opened == []
    assert again.digest == first.digest
    assert [record.areas.tolist() for record in again.records] == [record.areas.tolist() for record in first.records]
    # Another label map of the same size is seen, however little time lies between.
    write_case("a_1", labels=np.where(np.arange(8) == 3, 0, 2).astype(np.int16) * np.ones((12, 10, 1), np.int16))
    assert read(folder).digest != first.digest
    assert opened


def test_a_cache_that_cannot_be_written_is_named(write_case, tmp_path, monkeypatch):
    dataset = read(write_case("a_1"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"file/volumes: cannot be written .*MRCNN_CACHE"):
        dataset[0]


def test_grids_that_differ_are_named_with_both_files(write_case, write_nifti):
    folder = write_case("a_1")
    write_nifti(folder / "a_1" / "a_1_t2.nii.gz", np.zeros((12, 10, 9), np.int16))
    with pytest.raises(InputError, match=r"a_1_flair\.nii\.gz and a_1_t2\.nii\.gz: expected one grid.*12×10×9 voxels"):
        read(folder)
    write_nifti(folder / "a_1" / "a_1_t2.nii.gz", np.zeros((12, 10, 8), np.int16), np.diag([-1.0, -1.0, 2.0, 1.0]))
    with pytest.raises(InputError, match=r"a_1_t2\.nii\.gz: expected one grid.*1×1×2 mm"):
        read(folder)


def test_bad_sets_are_named(write_case, write_nifti, tmp_path, head):
    with pytest.raises(InputError, match="no such folder"):
        read(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no case"):
        read(tmp_path)
    folder = write_case("a_1", seg=None)
    with pytest.raises(InputError, match="a_1: has no label map"):
        read(folder)
    write_nifti(folder / "a_1" / "a_1_seg.nii", head[1] * 0.5)
    with pytest.raises(InputError, match=r"a_1_seg\.nii: holds the values 0, 0\.5, 1, 2; expected the labels 0 to 4"):
        read(folder)
    write_nifti(folder / "a_1" / "a_1_seg.nii", head[1])
    with pytest.raises(InputError, match="a_1: the label map holds 4, which label_codes=brats2023 has not"):
        read(folder, label_codes="brats2023")
    for options in ({"modalities": ["t1", "t1"]}, {"modalities": ["pet"]}, {"label_codes": "2018"}, {"windows": 3}):
        with pytest.raises(InputError, match=f"{next(iter(options))}.*(expected|should be|not permitted)"):
            read(folder, **options)


def test_the_resection_cavity_is_in_no_region(write_case, head):
    """Voxels counted by hand: the map of 2018 with 3 for 4, and a cavity of 12 voxels in slice 5."""
    labels = np.where(head[1] == 4, 3, head[1])
    labels[1:5, 1:4, 5] = 4
    kinds = ("t2f", "t1n", "t1c", "t2w")
    folder = write_case("BraTS-GLI-00001-100", kinds, "{}-{}.nii.gz", labels=labels)
    dataset = read(folder, min_area=1)
    assert dataset.class_names == ("whole_tumor", "tumor_core", "enhancing_tumor") and not dataset.warnings
    areas = sum(np.bincount(record.class_ids, record.areas, minlength=4) for record in dataset.records)
    assert areas[1:].tolist() == [((labels > 0) & (labels < 4)).sum(), 4 * 3 * 2, 2] == [91, 24, 2]
    assert dataset.records[4].place.index == 5 and not len(dataset.records[4].class_ids)
    (folder / "BraTS-GLI-00001-100").rename(folder / "patient_7")
    with pytest.raises(InputError, match=r"patient_7 \(labels 1, 2, 3, 4\).*set volumes.label_codes to one of"):
        read(folder)
    assert len(read(folder, label_codes="brats2024", min_area=1).records[3].class_ids) == 3


def test_meningiomas_before_radiotherapy_have_one_region(write_case, head):
    for name in ("BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0001-2"):
        folder = write_case(name, ("t1c",), labels=(head[1] > 0).astype(np.uint8), seg="gtv")
    dataset = read(folder)
    assert dataset.class_names == ("whole_tumor",)
    assert {record.patient_id for record in dataset.records} == {"BraTS-MEN-RT-0001"}
    assert sum(record.areas.sum() for record in dataset.records) == 2 * 6 * 5 * 3  # the speck is below min_area
    write_case("BraTS-GLI-00001-000", ("t1c",), labels=(head[1] > 0).astype(np.uint8))
    with pytest.raises(InputError, match="BraTS-GLI-00001-000 and BraTS-MEN-RT-0001-2: one has the gross"):
        read(folder)


@pytest.fixture(scope="module")
def real_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
def test_real_volumes(shared_data, real_cache, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(real_cache))
    dataset = read(shared_data / "brats", min_area=1)
    assert {record.patient_id: record.volume.label_codes for record in dataset.records} == {
        "BraTS-GLI-00000": "brats2023",
        "Brats18_2013_21_1": "brats2018",
        "deepmedic_brats_2013_pat0001_1": "brats2013",
        "deepmedic_brats_2013_pat0002_1": "brats2013",
        "deepmedic_brats_2013_pat0003_1": "brats2013",
    }
    # Voxels of the labels as they are in the files, summed by hand: whole, core, enhancing.
    of_class = np.zeros(3, int)
    for record in dataset.records:
        if record.place.volume == "BraTS-GLI-00000-000":
            of_class += np.bincount(record.class_ids, record.areas, minlength=4)[1:].astype(int)
    assert of_class.tolist() == [11738 + 12836 + 32731, 11738 + 32731, 32731]


@pytest.mark.slow
def test_the_brain_is_that_of_the_mask_that_came_with_it(shared_data, real_cache, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(real_cache))
    folder = shared_data / "brats" / "deepmedic_brats_2013_pat0001_1"
    dataset = read(folder)
    mask = nibabel.load(folder / f"{folder.name}_brainmask.nii.gz").get_fdata().round().astype(bool)
    assert [record.place.index for record in dataset.records] == np.flatnonzero(mask.any(axis=(0, 1))).tolist()
    image = dataset[70].image
    outside = ~mask[:, :, dataset.records[70].place.index].T
    assert all(len(np.unique(image[outside][:, channel])) == 1 for channel in range(2))
    assert (image[~outside] != image[0, 0]).any(axis=1).mean() > 0.999
