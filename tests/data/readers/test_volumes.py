"""Volumes of any kind: small ones whose every voxel is known, in each layout, and real ones where they are."""

import json

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.data.io.volume_files import PLANES, best_plane, from_plane, to_plane
from mrcnn.data.io.volumes import Scaling
from mrcnn.data.readers import find_reader
from mrcnn.errors import InputError

LPS = np.diag([-1.0, -1.0, 3.0, 1.0])
SHAPE = (12, 10, 6)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))


def ct(seed=0):
    """Hounsfield units of the axes of the file."""
    return np.random.default_rng(seed).integers(-900, 900, SHAPE).astype(np.int16)


def organ():
    """A liver (1) of 5×4 pixels in slices 1 … 3, with a tumor (2) of 2×2 in slice 2."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:7, 3:7, 1:4] = 1
    labels[3:5, 4:6, 2] = 2
    return labels


def save(path, array, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, affine).to_filename(path)


def describe(root, **content):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def areas(dataset):
    """(class, area) of the instances by position of the slice."""
    return {
        record.place.index: sorted(
            zip((dataset.class_names[number - 1] for number in record.class_ids), record.areas.tolist(), strict=True)
        )
        for record in dataset.records
        if len(record.class_ids)
    }


EXPECTED = {1: [("liver", 20)], 2: [("liver", 16), ("tumor", 4)], 3: [("liver", 20)]}
V1 = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "tumor"}}
V2 = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumor": 2}, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(("content", "image"), [(V1, "a.nii.gz"), (V1, "a_0000.nii.gz"), (V2, "a_0000.nii.gz")])
def test_decathlon_and_nnunet(tmp_path, content, image):
    root = describe(tmp_path / "set", **content)
    save(root / "imagesTr" / image, ct())
    save(root / "labelsTr" / "a.nii.gz", organ())
    save(root / "imagesTs" / "b_0000.nii.gz", ct())
    assert find_reader(root) == "volumes"
    dataset = read_dataset(root, min_area=1)
    assert areas(dataset) == EXPECTED
    assert any("imagesTs: 1 case without labels is not read" in warning for warning in dataset.warnings)
    # Pixels as nibabel reads them: the slice, rows to the back, columns to the left, as the axes of the file lie.
    masks = dataset[2].masks
    raw = np.asarray(nibabel.load(root / "labelsTr" / "a.nii.gz").dataobj)[..., 2].T
    np.testing.assert_array_equal(masks[dataset.records[2].class_ids == 2].any(0), raw == 2)
    assert dataset.records[2].spacing_mm == (1.0, 1.0) and dataset.records[2].place.step_mm == 3.0


def test_channels_along_the_last_axis(tmp_path):
    root = describe(tmp_path / "set", **{**V1, "modality": {"0": "T1", "1": "T2"}})
    both = np.stack([ct(1), ct(2)], axis=-1)
    save(root / "imagesTr" / "a.nii.gz", both)
    save(root / "labelsTr" / "a.nii.gz", organ())
    dataset = read_dataset(root, scaling="zscore")
    expected = (both[..., 2, :].astype(float) - both.mean((0, 1, 2))) / both.std((0, 1, 2))
    np.testing.assert_allclose(dataset[2].image, expected.transpose(1, 0, 2), atol=5e-3)
    assert dataset.records[0].volume.channels == ("T1", "T2")
    second = read_dataset(root, scaling="zscore", modalities=("T2",))
    np.testing.assert_allclose(second[2].image[..., 0], expected.transpose(1, 0, 2)[..., 1], atol=5e-3)
    with pytest.raises(InputError, match="modalities: PET: expected some of T1, T2"):
        read_dataset(root, modalities=("PET",))


def test_regions_of_several_values(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "tumor": 2}
    root = describe(tmp_path / "set", **{**V2, "labels": labels, "regions_class_order": [1, 2]})
    save(root / "imagesTr" / "a_0000.nii.gz", ct())
    save(root / "labelsTr" / "a.nii.gz", organ())
    assert areas(read_dataset(root, min_area=1)) == {1: [("whole", 20)], 2: [("tumor", 4), ("whole", 20)],
                                                     3: [("whole", 20)]}  # fmt: skip


def test_two_dimensional_nnunet(tmp_path):
    root = describe(tmp_path / "set", **{**V2, "channel_names": {"0": "a", "1": "b"}, "file_ending": ".png"})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 10), np.uint8)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
    for channel in range(2):
        Image.fromarray(pixels[channel]).save(root / "imagesTr" / f"x_000{channel}.png")
    Image.fromarray(organ()[..., 2]).save(root / "labelsTr" / "x.png")
    dataset = read_dataset(root, min_area=1)
    np.testing.assert_array_equal(dataset[0].image, pixels.transpose(1, 2, 0))
    assert (dataset.records[0].file_name, dataset.records[0].spacing_mm) == ("x_0000.png", None)
    assert sorted(zip(dataset.records[0].class_ids.tolist(), dataset.records[0].areas.tolist(), strict=True)) == [
        (1, 16), (2, 4)]  # fmt: skip
    Image.fromarray(organ()[:5, :, 2]).save(root / "labelsTr" / "x.png")
    with pytest.raises(InputError, match=r"x\.png: has 10×5 pixels; its image has 10×12"):
        read_dataset(root)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.nii.gz", "labels/a.nii.gz"),
        ("imgs/a_ct.nii", "GT/a_seg.nii"),
        ("a.nii.gz", "a_seg.nii.gz"),
        ("a/image.nii.gz", "a/label.nii.gz"),
        ("a/ct.nii.gz", "a/segmentation.nii.gz"),
        ("train/images/a_0000.nii.gz", "train/masks/a.nii.gz"),
    ],
)
def test_pairs_by_name(tmp_path, image, label):
    for case in "ab":
        save(
            tmp_path / "set" / image.replace("a.", f"{case}.").replace("a/", f"{case}/").replace("a_", f"{case}_"), ct()
        )
        save(tmp_path / "set" / label.replace("a.", f"{case}.").replace("a/", f"{case}/").replace("a_", f"{case}_"),
             organ())  # fmt: skip
    dataset = read_dataset(tmp_path / "set", min_area=1, classes={"liver": 1, "tumor": 2})
    assert {record.place.volume.rpartition("/")[2] for record in dataset.records} == {"a", "b"}
    for case in "ab":
        mine = [i for i, record in enumerate(dataset.records) if record.place.volume.endswith(case)]
        assert areas(dataset.subset(mine)) == EXPECTED


PUBLISHED = {
    "LiTS": ("Batch 1/volume-{n}.nii", "Batch 1/segmentation-{n}.nii"),
    "BTCV": ("Training/img/img000{n}.nii.gz", "Training/label/label000{n}.nii.gz"),
    "ISLES": ("sub-{n}/ses-1/dwi/sub-{n}_ses-1_dwi.nii.gz", "derivatives/sub-{n}/ses-1/sub-{n}_ses-1_msk.nii.gz"),
    "VerSe": ("rawdata/sub-{n}/sub-{n}_ct.nii.gz", "derivatives/sub-{n}/sub-{n}_seg-vert_msk.nii.gz"),
    "ACDC": ("p{n}/p{n}_frame01.nii.gz", "p{n}/p{n}_frame01_gt.nii.gz"),
}


@pytest.mark.parametrize("layout", PUBLISHED)
def test_names_of_published_sets(tmp_path, layout):
    image, label = PUBLISHED[layout]
    for number in (1, 2):
        save(tmp_path / image.format(n=number), ct(number))
        save(tmp_path / label.format(n=number), organ() * number)
    dataset = read_dataset(tmp_path, classes={"all": [1, 2, 4]})
    assert len({record.patient_id for record in dataset.records}) == 2
    assert {record.path for record in dataset.records} == {tmp_path / image.format(n=number) for number in (1, 2)}
    assert [record.areas.tolist() for record in dataset.records] == [[], [20], [20], [20], [], []] * 2


def test_cases_of_a_patient_in_its_folder(tmp_path):
    """Both phases of a heart are of one patient, as in ACDC; a frame may be an image of two dimensions, as in CAMUS."""
    for patient in ("patient001", "patient002"):
        for frame in ("frame01", "frame12"):
            save(tmp_path / patient / f"{patient}_{frame}.nii.gz", ct()[..., 2])
            save(tmp_path / patient / f"{patient}_{frame}_gt.nii.gz", organ()[..., 2])
    dataset = read_dataset(tmp_path, classes={"liver": 1, "tumor": 2}, min_area=1)
    assert [record.patient_id for record in dataset.records] == ["patient001"] * 2 + ["patient002"] * 2
    assert all(sorted(record.areas.tolist()) == [4, 16] for record in dataset.records)


def test_a_label_map_for_each_class(tmp_path):
    """As TotalSegmentator writes them; classes may overlap."""
    for case in ("s1", "s2"):
        save(tmp_path / case / "ct.nii.gz", ct())
        save(tmp_path / case / "segmentations" / "liver.nii.gz", (organ() > 0).astype(np.uint8))
        save(tmp_path / case / "segmentations" / "tumor.nii.gz", (organ() == 2).astype(np.uint8))
    dataset = read_dataset(tmp_path, min_area=1)
    assert dataset.class_names == ("liver", "tumor") and {record.patient_id for record in dataset.records} == {
        "s1",
        "s2",
    }
    assert areas(dataset) == {1: [("liver", 20)], 2: [("liver", 20), ("tumor", 4)], 3: [("liver", 20)]}
    for case in ("s1", "s2"):
        (tmp_path / case / "segmentations" / "tumor.nii.gz").rename(tmp_path / case / "segmentations" / "cyst.nii.gz")
    assert read_dataset(tmp_path).class_names == ("cyst", "liver")


def test_a_folder_of_label_maps_for_each_class(tmp_path):
    """As the 20 CT scans of COVID-19 by Ma et al.: lungs and infections in folders of their own."""
    for case in ("a", "b"):
        save(tmp_path / "20cases" / f"{case}.nii.gz", ct())
        save(tmp_path / "Liver_Mask" / f"{case}.nii.gz", (organ() > 0).astype(np.uint8))
        save(tmp_path / "Tumor_Mask" / f"{case}.nii.gz", (organ() == 2).astype(np.uint8))
    dataset = read_dataset(tmp_path, min_area=1)
    assert dataset.class_names == ("Liver_Mask", "Tumor_Mask")
    assert areas(dataset)[2] == [("Liver_Mask", 20), ("Tumor_Mask", 4)]


def test_a_described_set_in_a_folder(tmp_path):
    """As an archive of the Decathlon unpacks; of two, one has to be chosen."""
    save(describe(tmp_path / "Task03_Liver", **V1) / "imagesTr" / "a.nii.gz", ct())
    save(tmp_path / "Task03_Liver" / "labelsTr" / "a.nii.gz", organ())
    assert areas(read_dataset(tmp_path, min_area=1)) == EXPECTED
    save(describe(tmp_path / "Task09_Spleen", **V1) / "imagesTr" / "b.nii.gz", ct())
    with pytest.raises(InputError, match="holds the data sets Task03_Liver, Task09_Spleen; expected one of them"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("slice_instances", ["pieces", "values"])
def test_nndetection_has_instances(tmp_path, slice_instances):
    """Values are instances; a JSON file of each case has their classes, from 0."""
    root = describe(tmp_path / "Task01", labels={"0": "benign", "1": "malignant"}, modalities={"0": "CT"}, dim=3)
    first = np.zeros(SHAPE, np.uint8)
    first[1:5, 1:5, 2], first[5:8, 1:5, 2], first[1:7, 8:10, 2] = 1, 2, 3  # 1 and 2 touch
    for case, values, classes in (("a", first, {"1": 0, "2": 0, "3": 1}), ("b", (first == 1) * 1, {"1": 1})):
        save(root / "raw_splitted" / "imagesTr" / f"{case}_0000.nii.gz", ct())
        save(root / "raw_splitted" / "labelsTr" / f"{case}.nii.gz", values.astype(np.uint8))
        (root / "raw_splitted" / "labelsTr" / f"{case}.json").write_text(json.dumps({"instances": classes}))
    dataset = read_dataset(root, slice_instances=slice_instances)
    assert dataset.class_names == ("benign", "malignant")
    of_case = {each.place.volume: sorted(zip(each.class_ids, each.areas, strict=True))
               for each in dataset.records if len(each.class_ids)}  # fmt: skip
    assert of_case == {"a": [(1, 12), (1, 16), (2, 12)], "b": [(2, 16)]}
    (root / "raw_splitted" / "labelsTr" / "b.json").write_text('{"instances": {"1": 2}}')
    with pytest.raises(InputError, match=r"b\.json: instances: '1': 2; expected a value and a class from 0 to 1"):
        read_dataset(root)
    (root / "raw_splitted" / "labelsTr" / "b.json").write_text('{"instances": {"2": 1}}')
    with pytest.raises(InputError, match="b: the label map holds 1, which its JSON file does not list"):
        read_dataset(root)
    (root / "raw_splitted" / "labelsTr" / "b.json").write_text("[]")
    with pytest.raises(InputError, match=r"b\.json: expected instances"):
        read_dataset(root)
    assert {each.place.volume for each in read_dataset(root, on_error="skip").records} == {"a"}


def test_monai_label_keeps_predictions_beside_labels(tmp_path):
    save(tmp_path / "set" / "img1.nii.gz", ct())
    save(tmp_path / "set" / "labels" / "original" / "img1.nii.gz", organ())
    with pytest.raises(InputError, match="no known form"):
        read_dataset(tmp_path / "set")
    save(tmp_path / "set" / "labels" / "final" / "img1.nii.gz", (organ() > 1) * np.uint8(1))
    dataset = read_dataset(tmp_path / "set", min_area=1)
    assert areas(dataset) == {2: [("object", 4)]}
    assert "label maps in labels/original are predictions and are not read" in " ".join(dataset.warnings)


def test_patterns(tmp_path):
    for case in ("p1", "p2"):
        save(tmp_path / "set" / case / "scans" / "t1_axial.nii.gz", ct(1))
        save(tmp_path / "set" / case / "scans" / "t2_axial.nii.gz", ct(2))
        save(tmp_path / "set" / case / "drawn.nii.gz", organ())
    options = {"images": {"t2": "{case}/scans/t2*.nii.gz", "t1": "{case}/scans/t1*.nii.gz"},
               "labels": "{case}/drawn.nii.gz", "classes": {"organ": (1, 2)}}  # fmt: skip
    dataset = read_dataset(tmp_path / "set", "volumes", **options)
    assert dataset.records[0].volume.channels == ("t2", "t1")
    assert areas(dataset.subset(range(6))) == {1: [("organ", 20)], 2: [("organ", 20)], 3: [("organ", 20)]}
    (tmp_path / "set" / "p2" / "drawn.nii.gz").unlink()
    with pytest.raises(InputError, match=r"p2: has no label map; expected p2/drawn\.nii\.gz"):
        read_dataset(tmp_path / "set", "volumes", **options)
    with pytest.raises(InputError, match=r"expected \{case\} once"):
        read_dataset(tmp_path / "set", "volumes", **{**options, "labels": "drawn.nii.gz"})


def test_windows_and_percentiles(tmp_path):
    save(tmp_path / "set" / "a.nii.gz", ct())
    save(tmp_path / "set" / "a_seg.nii.gz", organ())
    raw = ct()[..., 2].T.astype(float)
    shown = read_dataset(tmp_path / "set", window=(40, 400))[2].image
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[..., 0], np.rint(((raw + 160) / 400 * 255).clip(0, 255)))
    low, high = np.percentile(ct(), (0.5, 99.5))
    shown = read_dataset(tmp_path / "set")[2].image
    np.testing.assert_allclose(shown[..., 0], ((raw - low) / (high - low) * 255).clip(0, 255), atol=0.51)
    digests = {read_dataset(tmp_path / "set", **options).digest for options in
               ({}, {"window": (40, 400)}, {"window": (50, 400)}, {"plane": "coronal"})}  # fmt: skip
    assert len(digests) == 4
    with pytest.raises(InputError, match="expected a width above 0"):
        read_dataset(tmp_path / "set", window=(40, 0))


def test_planes(tmp_path):
    """A box that differs along each axis, cut in each plane; the finest pixels lie across the coarsest axis."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:7, 3:6, 1:3] = 1  # 5 to the left, 3 to the back, 2 up
    save(tmp_path / "set" / "a.nii.gz", ct())
    save(tmp_path / "set" / "a_seg.nii.gz", labels)
    read = {plane: read_dataset(tmp_path / "set", plane=plane, min_area=1) for plane in PLANES}
    boxes = {plane: (len(areas(dataset)), dataset[min(areas(dataset))].masks[0].shape,
                     next(record.boxes.tolist()[0] for record in dataset.records if len(record.boxes)))
             for plane, dataset in read.items()}  # fmt: skip
    assert boxes["axial"] == (2, (10, 12), [2, 3, 7, 6])
    assert boxes["coronal"] == (3, (6, 12), [2, 3, 7, 5])  # rows from the top down
    assert boxes["sagittal"] == (5, (6, 10), [3, 3, 6, 5])
    assert read["coronal"].records[0].spacing_mm == (3.0, 1.0)
    assert read_dataset(tmp_path / "set").records[0].volume.plane == "axial"
    assert best_plane((1.0, 4.0, 1.0)) == "coronal" and best_plane((1.0, 1.0, 4.0)) == "sagittal"
    assert best_plane((1.0, 1.2, 1.0)) == "axial"
    stack = np.arange(24).reshape(2, 3, 4)
    for plane in PLANES:
        np.testing.assert_array_equal(from_plane(to_plane(stack, plane), plane), stack)


def test_values_are_instances_or_classes(tmp_path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[1:4, 1:4, 2], labels[4:8, 1:4, 2], labels[8, 8, 2] = 300, 7, 300
    save(tmp_path / "set" / "a.nii.gz", ct())
    save(tmp_path / "set" / "a_seg.nii.gz", labels)
    assert areas(read_dataset(tmp_path / "set", slice_instances="values")) == {2: [("object", 10), ("object", 12)]}
    assert areas(read_dataset(tmp_path / "set", min_area=1)) == {
        2: [("label_300", 1), ("label_300", 9), ("label_7", 12)]
    }
    assert areas(read_dataset(tmp_path / "set", min_area=1, slice_instances="classes", classes={"x": (7, 300)})) == {
        2: [("x", 22)]
    }
    told = read_dataset(tmp_path / "set", classes={"x": 7}).warnings
    assert "values of the label maps are in no class and count as background: 300" in told


def test_a_model_of_volumes_writes_the_values_of_its_labels():
    from mrcnn.data.readers.volumes.labels import LabelRule, label_map_of_regions

    rule = LabelRule(("whole", "core"), ((4,), (2,)))
    regions = np.zeros((2, 3, 3), bool)
    regions[0, :2], regions[1, 0] = True, True
    assert label_map_of_regions(regions, rule.values).tolist() == [[2] * 3, [4] * 3, [0] * 3]
    assert Scaling().method == "zscore"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "dataset.json").write_text("{"), r"dataset\.json: not a JSON file"),
        (lambda root: describe(root, labels={"background": 0}, channel_names={"0": "CT"}), "expected a class beside"),
        (lambda root: describe(root, labels={"a": 1, "ignore": 2}, channel_names={"0": "CT"}), r"ignore \(2\) marks"),
        (lambda root: describe(root, labels={"a": "x"}, channel_names={"0": "CT"}), "labels: a: 'x'; expected"),
        (lambda root: describe(root, labels={"a": 1}), "channel_names: expected an object"),
        (lambda root: describe(root, labels={"a": 1}, channel_names={"0": "CT"}), "the label map holds 2; expected 0"),
        (lambda root: describe(root, labels={"a": 1, "b": 2}, channel_names={"0": "CT", "1": "PET"}), "for each of 2"),
        (lambda root: (root / "imagesTr" / "a_0000.nii.gz").unlink(), r"a: labelsTr/a\.nii\.gz has no image"),
        (lambda root: (root / "labelsTr" / "a.nii.gz").write_bytes(b""), r"a\.nii\.gz: expected a readable NIfTI"),
        (lambda root: save(root / "labelsTr" / "a.nii.gz", organ()[:5]), "expected one grid, found 12×10×6"),
        (lambda root: save(root / "labelsTr" / "a.nii.gz", organ() * 0.5), r"holds the values 0, 0\.5, 1; expected"),
        (lambda root: save(root / "labelsTr" / "a.nii.gz", organ(), np.diag([-2.0, -1, 3, 1])), "expected one grid"),
    ],
)  # fmt: skip
def test_damaged_sets(tmp_path, spoil, message):
    root = describe(tmp_path / "set", **V2)
    for case in "ab":
        save(root / "imagesTr" / f"{case}_0000.nii.gz", ct())
        save(root / "labelsTr" / f"{case}.nii.gz", organ())
    spoil(root)
    with pytest.raises(InputError, match=message):
        read_dataset(root)
    if "dataset.json" not in message and "expected a" not in message:
        try:
            kept = read_dataset(root, on_error="skip")
        except InputError:
            return
        assert {record.place.volume for record in kept.records} <= {"a", "b"}


def test_real_volumes_as_the_decathlon_writes_them(shared_data, tmp_path):
    """The same masks and classes from one file of four channels as from the BraTS case that it was made of."""
    case = shared_data / "brats" / "BraTS-GLI-00000-000"
    names = ("flair", "t1", "t1ce", "t2")
    opened = [nibabel.load(case / f"{case.name}_{name}.nii.gz") for name in names]
    labels = np.asarray(nibabel.load(case / f"{case.name}_seg.nii.gz").dataobj)
    root = describe(tmp_path / "set", modality={str(k): name for k, name in enumerate(names)},
                    labels={"0": "background", "1": "edema", "2": "core", "3": "enhancing"})  # fmt: skip
    save(
        root / "imagesTr" / "a.nii.gz", np.stack([np.asarray(image.dataobj) for image in opened], -1), opened[0].affine
    )
    save(root / "labelsTr" / "a.nii.gz", np.array([0, 2, 1, 3], np.uint8)[labels.astype(int)], opened[0].affine)
    general = read_dataset(root, classes={"whole_tumor": (1, 2, 3), "tumor_core": (2, 3), "enhancing_tumor": 3},
                           scaling="zscore")  # fmt: skip
    before = read_dataset(case, "volumes", layout="brats")
    assert [record.place.index for record in general.records] == [record.place.index for record in before.records]
    for one, other, left, right in zip(general.records, before.records, general._runs, before._runs, strict=True):
        assert one.class_ids.tolist() == other.class_ids.tolist() and left == right
    np.testing.assert_array_equal(general[60].image, before[60].image)


def test_tiff_stacks_of_nnunet_are_volumes(tmp_path):
    root = describe(tmp_path / "set", channel_names={"0": "CT"}, labels={"background": 0, "liver": 1, "tumor": 2},
                    file_ending=".tif")  # fmt: skip
    for folder, name, voxels in (("imagesTr", "a_0000", ct()), ("labelsTr", "a", organ())):
        (root / folder).mkdir()
        tifffile.imwrite(root / folder / f"{name}.tif", voxels.transpose(2, 1, 0))
        (root / folder / "a.json").write_text('{"spacing": [3.0, 0.5, 0.25]}')
    dataset = read_dataset(root, scaling="percentiles", min_area=1)
    assert dataset.class_names == ("liver", "tumor") and areas(dataset) == EXPECTED
    record = dataset.records[0]
    assert record.spacing_mm == (0.5, 0.25) and record.place.step_mm == 3
    save(tmp_path / "nifti/imagesTr/a_0000.nii.gz", ct(), np.diag([-0.25, -0.5, 3, 1]))
    save(tmp_path / "nifti/labelsTr/a.nii.gz", organ(), np.diag([-0.25, -0.5, 3, 1]))
    describe(tmp_path / "nifti", channel_names={"0": "CT"}, labels={"background": 0, "liver": 1, "tumor": 2})
    same = read_dataset(tmp_path / "nifti", scaling="percentiles", min_area=1)
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset[index].image, same[index].image)
        np.testing.assert_array_equal(dataset[index].masks, same[index].masks)
    (root / "imagesTr/a.json").write_text('{"spacing": [3.0, 0.5, 0.5]}')
    with pytest.raises(InputError, match="expected one grid"):
        read_dataset(root)
    (root / "labelsTr/a.json").unlink()
    with pytest.raises(InputError, match=r"labelsTr/a\.json: is missing; expected"):
        read_dataset(root)
