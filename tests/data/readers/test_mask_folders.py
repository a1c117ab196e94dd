"""Layouts of images and masks, pictured as trees: one phantom set written in each way that sets are published."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from mrcnn.data import read_dataset
from mrcnn.data.readers import find_reader
from mrcnn.errors import InputError

SIZE = (12, 20)
CLASSES = {"benign": ["benign (1)", "benign (2)"], "malignant": ["malignant (1)", "malignant (2)"],
           "normal": ["normal (1)", "normal (2)"]}  # fmt: skip


def square(left, side=3, value=255):
    mask = np.zeros(SIZE, np.uint8)
    mask[4 : 4 + side, left : left + side] = value
    return mask


def masks_of(name):
    """One lesion, two in files of their own, or none: areas 9, 9 and 16, or nothing."""
    if name.startswith("normal"):
        return [np.zeros(SIZE, np.uint8)]
    return [square(1)] if name.endswith("(1)") else [square(1), square(8, 4)]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(root, image, mask):
    """Write the set in paths with {c} for the class, {n} for the name and {k} for `_1` and so on."""
    for kind, names in CLASSES.items():
        for name in names:
            save(root / image.format(c=kind, n=name), np.random.default_rng(len(name)).integers(0, 256, SIZE, np.uint8))
            for number, drawn in enumerate(masks_of(name)):
                save(root / mask.format(c=kind, n=name, k=f"_{number}" if number else ""), drawn)
    return root


def found(dataset):
    """(image-level class, classes and areas of the instances) by name of the image."""
    result = {}
    for record in dataset.records:
        classes = [dataset.class_names[number - 1] for number in record.class_ids]
        name = re.search(r"\w+ \(\d\)", record.file_name)[0]
        result[name] = (record.label, sorted(zip(classes, record.areas.tolist(), strict=True)))
    return result


EXPECTED = {
    "benign (1)": ("benign", [("benign", 9)]),
    "benign (2)": ("benign", [("benign", 9), ("benign", 16)]),
    "malignant (1)": ("malignant", [("malignant", 9)]),
    "malignant (2)": ("malignant", [("malignant", 9), ("malignant", 16)]),
    "normal (1)": ("normal", []),
    "normal (2)": ("normal", []),
}
LAYOUTS = {
    "all in one, as BUSI": ("{c}/{n}.png", "{c}/{n}_mask{k}.png"),
    "in a folder of its own": ("Dataset_with_GT/{c}/{n}.png", "Dataset_with_GT/{c}/{n}_mask{k}.png"),
    "images and mask below": ("{c}/images/{n}.png", "{c}/mask/{n}_mask{k}.png"),
    "images and masks above": ("images/{c}/{n}.png", "masks/{c}/{n}{k}.png"),
    "masks alone below": ("{c}/{n}.bmp", "{c}/GT/{n}{k}.tif"),
    "capitals": ("Images/{c}/{n}.jpg", "Ground Truth/{c}/{n}-seg{k}.bmp"),
    "prefix": ("{c}/{n}.png", "{c}/mask_{n}{k}.png"),
    "msk": ("{c}/img/{n}.png", "{c}/msk/{n}{k}.png"),
    "annotations": ("{c}/img/{n}.png", "{c}/annotations/{n}_label{k}.png"),
    "split above": ("train/{c}/{n}.png", "train/{c}/{n}_segmentation{k}.png"),
    "class in the name of the folder": ("{c}_images/{n}.png", "{c}_masks/{n}{k}.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_class_folders(tmp_path, layout):
    root = write(tmp_path / "set", *LAYOUTS[layout])
    assert find_reader(root) == "masks"
    dataset = read_dataset(root)
    assert dataset.class_names == ("benign", "malignant")
    assert found(dataset) == EXPECTED
    mask = LAYOUTS[layout][1]
    drawn = 0  # as Pillow decodes the files
    for kind, names in CLASSES.items():
        for path in (root / mask.format(c=kind, n=n, k=k) for n in names for k in ("", "_1")):
            drawn += int((np.asarray(Image.open(path)) > 0).sum()) if path.exists() else 0
    assert sum(int(record.areas.sum()) for record in dataset.records) == drawn == 2 * (9 + 9 + 16)
    (told,) = [warning for warning in dataset.warnings if warning.startswith("classes by folder")]
    assert "benign (2 images), malignant (2 images); without instances: normal (2 images)" in told


def test_the_rule_of_pairing_is_printed(tmp_path):
    root = write(tmp_path / "set", *LAYOUTS["all in one, as BUSI"])
    assert read_dataset(root).warnings[0] == (
        "pairs 6 images with masks by the suffix _mask; 2 images have several masks"
    )
    root = write(tmp_path / "other", *LAYOUTS["masks alone below"])
    assert "pairs 6 images with masks by equal names in the folder GT" in read_dataset(root).warnings[0]


def test_images_without_a_mask(tmp_path):
    root = write(tmp_path / "set", *LAYOUTS["all in one, as BUSI"])
    for number in (1, 2):
        (root / "normal" / f"normal ({number})_mask.png").unlink()
    dataset = read_dataset(root)
    assert found(dataset) == EXPECTED
    (root / "benign" / "benign (1)_mask.png").unlink()
    with pytest.raises(InputError, match=r"1 problem\n +benign/benign \(1\)\.png: has no mask, and other images of be"):
        read_dataset(root)
    assert len(read_dataset(root, on_error="skip")) == 5
    save(root / "benign" / "benign (1)_mask.png", np.zeros(SIZE, np.uint8))
    assert any("images have an empty mask though" in warning for warning in read_dataset(root).warnings)


def test_classes_are_chosen(tmp_path):
    root = write(tmp_path / "set", *LAYOUTS["all in one, as BUSI"])
    assert read_dataset(root, class_folders=False).class_names == ("object",)
    assert read_dataset(root, class_folders=False).records[0].label is None
    chosen = read_dataset(root, class_names=("Malignant", "Benign", "normal"))
    assert chosen.class_names == ("Malignant", "Benign", "normal")
    assert {number for record in chosen.records for number in record.class_ids} == {1, 2}
    with pytest.raises(InputError, match="expected the folder malignant among them"):
        read_dataset(root, class_names=("benign", "cyst"), class_folders=True)


def test_classes_in_names_of_images_are_named(tmp_path):
    """BUSI in two folders: the classes are in the names alone."""
    dataset = read_dataset(write(tmp_path, "images/{n}.png", "masks/{n}_mask{k}.png"))
    assert dataset.class_names == ("object",) and {record.label for record in dataset.records} == {None}
    assert "names of images begin with benign (2), malignant (2), normal (2)" in " ".join(dataset.warnings)
    dataset = read_dataset(write(tmp_path / "set", "{c}/images/{n}.png", "{c}/masks/{n}_mask{k}.png"))
    assert not any("names of images begin with" in each for each in dataset.warnings)


def test_folders_of_patients_are_no_classes(tmp_path):
    for patient in ("p01", "p02"):
        for number in range(2):
            save(tmp_path / patient / f"{number}.png", square(5, value=90))
            save(tmp_path / patient / f"{number}_mask.png", square(1))
    assert read_dataset(tmp_path).class_names == ("object",)
    assert read_dataset(tmp_path, class_folders=True).class_names == ("p01", "p02")


def test_classes_of_masks_alone(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"{number}.png", square(5, value=90))
        save(tmp_path / "masks" / "cyst" / f"{number}.png", square(1))
        save(tmp_path / "masks" / "stone" / f"{number}.png", square(8, 4))
    dataset = read_dataset(tmp_path, class_folders=True)
    assert dataset.class_names == ("cyst", "stone")
    assert [record.class_ids.tolist() for record in dataset.records] == [[1, 2]] * 2


def test_folders_of_masks_that_are_classes(tmp_path):
    """As SCR has them for JSRT; the sides are no classes."""
    for number in range(2):
        save(tmp_path / "images" / f"{number}.png", square(5, value=90))
        for left, name in enumerate(("heart", "left lung", "right lung")):
            save(tmp_path / "scratch" / f"fold{number}" / "masks" / name / f"{number}.gif", square(1 + 5 * left))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("heart", "lung")
    assert [sorted(record.class_ids.tolist()) for record in dataset.records] == [[1, 2, 2]] * 2
    assert any("classes by folder: heart (2 masks), lung (4 masks)" in each for each in dataset.warnings)
    assert read_dataset(tmp_path, class_folders=False).class_names == ("object",)


NAMES = {
    "BUS-BRA": ("Images/bus_000{n}-l.png", "Masks/mask_000{n}-l.png"),
    "BUSI-WHU": ("train/img/train{n}.bmp", "train/gt/train{n}_anno.bmp"),
    "DRIVE": ("training/images/2{n}_training.tif", "training/1st_manual/2{n}_manual1.gif"),
    "ETIS-Larib": ("ETIS-LaribPolypDB/{n}.tif", "Ground Truth/p{n}.tif"),
    "PNG and TIF": ("PNG/Original/{n}.png", "PNG/Ground Truth/{n}.png"),
}


@pytest.mark.parametrize("layout", NAMES)
def test_names_of_published_sets(tmp_path, layout):
    image, mask = NAMES[layout]
    for number in range(3):
        save(tmp_path / image.format(n=number), square(5, value=90))
        save(tmp_path / mask.format(n=number), square(1 + number, 1 + number))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("object",)
    found = {record.file_name: record.areas.tolist() for record in dataset.records}
    assert found == {image.format(n=number): [(1 + number) ** 2] for number in range(3)}


def test_roboflow_lists_the_classes_of_values(tmp_path):
    for split in ("train", "valid"):
        save(tmp_path / split / f"{split}_jpg.rf.0a.jpg", square(5, value=90))
        save(tmp_path / split / f"{split}_jpg.rf.0a_mask.png", square(1, value=1) + square(8, 4, value=2))
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, nodule\n2, cyst\n")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("nodule", "cyst")
    assert [record.class_ids.tolist() for record in dataset.records] == [[1, 2]] * 2
    (tmp_path / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cyst\n")
    with pytest.raises(InputError, match=r"_classes\.csv: expected a value from 0 and a class a line"):
        read_dataset(tmp_path)


def test_affixes_of_some_masks_alone_are_no_rule(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"bus_{number}.png", square(5, value=90))
        save(tmp_path / "masks" / f"mask_{number + 1}.png", square(1))
    with pytest.raises(InputError, match=r"masks/mask_1\.png: no image of that name"):
        read_dataset(tmp_path)


def test_pictures_that_are_not_annotated(tmp_path):
    """Test images of a challenge, and pictures named after an image as in ISIC 2017."""
    for number in range(2):
        save(tmp_path / "Training Set" / f"a_{number}.png", square(5, value=90))
        save(tmp_path / "Training Set" / f"a_{number}_mask.png", square(1))
        save(tmp_path / "Training Set" / f"a_{number}_superpixels.png", square(5, value=90))
        save(tmp_path / "Test Set" / f"a_{number}.png", square(5, value=90))
    dataset = read_dataset(tmp_path)
    assert [record.file_name for record in dataset.records] == ["Training Set/a_0.png", "Training Set/a_1.png"]
    assert dataset.class_names == ("object",)
    warnings = [each for each in dataset.warnings if "left out" in each]
    assert len(warnings) == 2 and "_superpixels" in warnings[0] and "the split test" in warnings[1]


def test_pictures_beside_the_folder_of_images(tmp_path):
    """As `edge` of polyp sets, or `overlay` of NuInsSeg."""
    for organ in ("liver", "lung"):
        for number in range(2):
            for folder in ("tissue images", "overlay", "edge"):
                save(tmp_path / organ / folder / f"{number}.png", square(5, value=90))
            save(tmp_path / organ / "label masks" / f"{number}.png", square(1))
    dataset = read_dataset(tmp_path)
    assert {record.path.parent.name for record in dataset.records} == {"tissue images"}
    assert [len(record.areas) for record in dataset.records] == [1] * 4
    assert any("8 pictures beside the folder of images" in each for each in dataset.warnings)


def test_names_of_image_and_mask_differ_by_words(tmp_path):
    for number in ("001", "002"):
        save(tmp_path / "set" / "scans" / f"image_{number}.png", square(5, value=90))
        save(tmp_path / "set" / "truth" / f"mask_{number}.png", square(1))
        save(tmp_path / "glued" / f"img{number}.png", square(5, value=90))
        save(tmp_path / "glued" / f"mask{number}.png", square(1))
    for name in ("set", "glued"):
        assert [record.areas.tolist() for record in read_dataset(tmp_path / name).records] == [[9], [9]]


def test_dicom_files_without_suffix(tmp_path):
    """As scanners name them: by a number or by the UID; the list DICOMDIR is no image."""
    for name in ("IM000001", "1.2.826.0.17"):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "images" / name)  # 128×128 pixels
        save(tmp_path / "masks" / f"{name}.png", np.kron(np.eye(2, 32, dtype=np.uint8), np.ones((64, 4), np.uint8)))
    (tmp_path / "images" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "images" / "notes").write_text("none")
    dataset = read_dataset(tmp_path)
    assert [record.file_name for record in dataset.records] == ["images/1.2.826.0.17", "images/IM000001"]
    assert [record.areas.tolist() for record in dataset.records] == [[512]] * 2


def test_two_sides_in_folders_of_their_own(tmp_path):
    """As the chest films of Montgomery County: ManualMask/leftMask and rightMask."""
    for name in ("a", "b"):
        save(tmp_path / "CXR_png" / f"{name}.png", square(5, value=90))
        save(tmp_path / "ManualMask" / "leftMask" / f"{name}.png", square(1))
        save(tmp_path / "ManualMask" / "rightMask" / f"{name}.png", square(8, 4))
    assert [record.areas.tolist() for record in read_dataset(tmp_path).records] == [[9, 16]] * 2


@pytest.mark.parametrize("layout", ["masks/{}_{}.png", "masks/{}_{}_mask.png", "images/{}_{}_mask.png"])
def test_names_of_masks_add_a_word(tmp_path, layout):
    """Sides are instances of one class, other words are classes; a word of some masks alone is no rule."""
    for name in ("a 1", "a 2"):
        for part in ("sides", "parts"):
            save(tmp_path / part / "images" / f"{name}.png", square(5, value=90))
        save(tmp_path / "sides" / layout.format(name, "left"), square(1))
        save(tmp_path / "sides" / layout.format(name, "right"), square(8, 4))
        save(tmp_path / "parts" / layout.format(name, "left_lung"), square(1))
        save(tmp_path / "parts" / layout.format(name, "right-lung"), square(12, 5))
        save(tmp_path / "parts" / layout.format(name, "heart"), square(8, 4))
    dataset = read_dataset(tmp_path / "sides")
    assert dataset.class_names == ("object",) and [each.areas.tolist() for each in dataset.records] == [[9, 16]] * 2
    assert any("names that add a word to that of the image" in warning for warning in dataset.warnings)
    dataset = read_dataset(tmp_path / "parts")
    assert dataset.class_names == ("heart", "lung")
    for record in dataset.records:
        assert sorted(zip(record.class_ids, record.areas, strict=True)) == [(1, 16), (2, 9), (2, 25)]
    assert any("classes by name of the masks: heart (2 masks), lung (4 masks)" in each for each in dataset.warnings)
    assert read_dataset(tmp_path / "parts", class_folders=False).class_names == ("object",)
    # As CholecSeg8k has a_mask, a_color_mask and a_watershed_mask.
    save(tmp_path / "sides" / layout.replace("{}_{}", "a 2"), square(1))
    with pytest.raises(InputError, match=r"/a 1_left\S*\.png: no image of that name in images"):
        read_dataset(tmp_path / "sides")


def test_a_mask_that_may_be_of_two_images_is_refused(tmp_path):
    for folder in ("left", "right"):
        save(tmp_path / "images" / folder / "1.png", square(5, value=90))
        save(tmp_path / "images" / folder / "2.png", square(5, value=90))
    save(tmp_path / "masks" / "1.png", square(1))
    save(tmp_path / "masks" / "right" / "2.png", square(1))
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path, class_folders=False)
    assert "masks/1.png: could be the mask of images/left/1.png or of images/right/1.png" in str(caught.value)
    kept = read_dataset(tmp_path, class_folders=False, on_error="skip")
    assert [(record.file_name, len(record.areas)) for record in kept.records] == [
        ("images/left/2.png", 0),
        ("images/right/2.png", 1),
    ]


def test_splits_keep_their_masks_apart(tmp_path):
    """The same names in both splits: a mask never goes to an image of the other."""
    for split, left in (("train", 1), ("test", 8)):
        save(tmp_path / split / "1.png", square(5, value=90))
        save(tmp_path / f"{split}_masks" / "1.png", square(left))
    dataset = read_dataset(tmp_path)
    assert {record.file_name: record.boxes.tolist() for record in dataset.records} == {
        "test/1.png": [[8, 4, 11, 7]],
        "train/1.png": [[1, 4, 4, 7]],
    }
    assert dataset.class_names == ("object",)


def test_pictures_without_masks_are_no_set(tmp_path):
    for kind in ("cats", "dogs"):
        save(tmp_path / kind / "label_1.png", square(1))
        save(tmp_path / kind / "gt.png", square(1))
    with pytest.raises(InputError, match="no known form"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:30]), "expected a readable mask"),
        (lambda path: path.write_bytes(b""), "expected a readable mask"),
        (lambda path: save(path, np.zeros((5, 5), np.uint8)), "has 5×5 pixels; its image has 20×12"),
    ],
)
def test_damaged_masks(tmp_path, damage, message):
    root = write(tmp_path / "set", *LAYOUTS["all in one, as BUSI"])
    damage(root / "malignant" / "malignant (2)_mask_1.png")
    with pytest.raises(InputError, match=rf"malignant \(2\)_mask_1\.\w+: .*{message}"):
        read_dataset(root)
    assert set(found(read_dataset(root, on_error="skip"))) == set(EXPECTED) - {"malignant (2)"}
