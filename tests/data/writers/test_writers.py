"""Data sets written in each form: decoded here by other means than the project's, and read back by its reader."""

import base64
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from experiments.commands import convert
from mrcnn.data import read_dataset
from mrcnn.data.dataset import Dataset
from mrcnn.data.writers import FORMS, write_dataset, written_stems
from mrcnn.data.writers.traces import trace_contours, trace_joined, trace_pieces
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop, encode_crop

HEIGHT, WIDTH = 40, 60
NAMES = ("iso", "hypo")


def masks():
    """A disk, a ring, two pieces that touch at a corner, and a block of the other class that overlaps the disk."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(y - 14.2, x - 12.7)
    around = np.hypot(y - 20, x - 40)
    pieces = np.zeros((HEIGHT, WIDTH), bool)
    pieces[30:34, 2:9] = pieces[34:38, 9:12] = True
    block = np.zeros((HEIGHT, WIDTH), bool)
    block[10:14, 0:5] = True
    return np.stack([distance < 10.3, (around < 9) & (around > 4), pieces, block])


@pytest.fixture
def source(tmp_path):
    """A COCO set of a gray image with four instances, and a color image of the same patient without any."""
    folder, rng = tmp_path / "source", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)).save(folder / "images/a b.png")
    Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(folder / "images/ü.png")
    images = [{"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH, "patient_id": "p"}
              for number, name in enumerate(("a b.png", "ü.png"), start=1)]  # fmt: skip
    annotations = []
    for number, (mask, category) in enumerate(zip(masks(), (1, 1, 1, 2), strict=True), start=1):
        run = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        segmentation = {"size": run["size"], "counts": run["counts"].decode()}
        annotations.append({"id": number, "image_id": 1, "category_id": category, "segmentation": segmentation})
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]}  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def found(dataset: Dataset) -> dict[str, list]:
    """Class and pixels of the instances of each image, sorted."""
    return {
        record.file_name.rpartition("/")[2].replace("_0000.png", ".png"): sorted(
            (dataset.class_names[class_id - 1], mask.tobytes())
            for class_id, mask in zip(record.class_ids, dataset.masks(index), strict=True)
        )
        for index, record in enumerate(dataset.records)
    }


@pytest.mark.parametrize("form", ["coco", "yolo", "labelme", "label_studio", "cvat"])
def test_a_data_set_comes_back_equal_to_the_pixel(source, tmp_path, form, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert convert.main(["source", "out", "--to", form]) == 0
    before, after = read_dataset(source), read_dataset(tmp_path / "out")
    assert found(after) == found(before)
    assert found(before)["a b.png"] == sorted(
        (name, mask.tobytes()) for name, mask in zip(("iso", "iso", "iso", "hypo"), masks(), strict=True)
    )
    for index in range(2):
        np.testing.assert_array_equal(after.image(index), before.image(index))
    if "patient_id" in FORMS[form].fields:
        assert {record.patient_id for record in after.records} == {"p"}


def test_labels_of_yolo_and_shapes_of_labelme_cover_the_pixels(source, tmp_path):
    dataset = read_dataset(source)
    assert write_dataset(dataset, tmp_path / "yolo", "yolo") == [
        "YOLO has no place for patients (of 2 images), which are not written; --patient_pattern finds patients in file "
        "names",
        "2 instances have holes or several pieces, and a line of YOLO is one outline: they are joined by lines of no "
        "width, which this project and Ultralytics fill exactly",
    ]
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text()) == {"names": {0: "iso", 1: "hypo"}}
    assert (tmp_path / "yolo/labels/ü.txt").read_text() == ""
    lines = (tmp_path / "yolo/labels/a b.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "0", "0", "1"]
    for line, mask in zip(lines, masks(), strict=True):
        points = np.array(line.split()[1:], float).reshape(-1, 2) * [WIDTH, HEIGHT]
        np.testing.assert_array_equal(polygon2mask(mask.shape, points[:, ::-1] - 0.5), mask)

    assert write_dataset(dataset, tmp_path / "labelme", "labelme") == []
    content = json.loads((tmp_path / "labelme/a b.json").read_text())
    assert (content["imagePath"], content["patient_id"]) == ("a b.png", "p")
    assert [each["shape_type"] for each in content["shapes"]] == ["polygon", "mask", "polygon", "polygon", "polygon"]
    assert [each["group_id"] for each in content["shapes"]] == [None, None, 3, 3, None]
    drawn = []
    for shape in content["shapes"]:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        if shape["shape_type"] == "mask":
            (x1, y1), (x2, y2) = shape["points"]
            mask[y1 : y2 + 1, x1 : x2 + 1] = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
        else:
            mask = polygon2mask(mask.shape, np.array(shape["points"])[:, ::-1] - 0.5)
        drawn.append(mask)
    np.testing.assert_array_equal([drawn[0], drawn[1], drawn[2] | drawn[3], drawn[4]], masks())
    assert len(content["shapes"][0]["points"]) < 45  # the outline along the pixels has 78 corners


def test_files_of_coco_and_cvat_hold_the_pixels(source, tmp_path):
    dataset = read_dataset(source)
    assert write_dataset(dataset, tmp_path / "coco", "coco") == []
    coco = COCO(tmp_path / "coco/annotations.json")
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds()), masks(), strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()
    write_dataset(dataset, tmp_path / "cvat", "cvat")
    image = ElementTree.parse(tmp_path / "cvat/annotations.xml").find("image")
    assert image.get("name") == "images/a b.png"
    for element, expected in zip(image, masks(), strict=True):
        left, top, width, height = (int(element.get(name)) for name in ("left", "top", "width", "height"))
        pixels = [value % 2 for value, count in enumerate(element.get("rle").split(", ")) for _ in range(int(count))]
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : top + height, left : left + width] = np.reshape(pixels, (height, width))
        np.testing.assert_array_equal(mask, expected)


def test_label_maps_of_nnunet_hold_classes_and_one_warning_counts_what_they_join(source, tmp_path):
    content = json.loads((source / "annotations.json").read_text())
    beside = np.zeros((HEIGHT, WIDTH), bool)
    beside[30:34, 9:12] = True  # touches the two pieces
    run = coco_mask.encode(np.asfortranarray(beside.astype(np.uint8)))
    segmentation = {"size": run["size"], "counts": run["counts"].decode()}
    content["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "segmentation": segmentation})
    (source / "annotations.json").write_text(json.dumps(content))
    lost, touching, hidden = write_dataset(read_dataset(source), tmp_path / "out", "nnunet")
    assert lost.startswith("nnU-Net has no place for patients (of 2 images), which")
    assert touching.startswith("2 instances touch another one of their class")
    assert hidden.startswith("2 instances share pixels with one of another class")
    labels = np.asarray(Image.open(tmp_path / "out/labelsTr/a b.png"))
    expected = masks()[:3].any(axis=0) | beside
    np.testing.assert_array_equal(labels, np.where(masks()[3], 2, expected))
    assert Image.open(tmp_path / "out/imagesTr/a b_0000.png").mode == "RGB"  # as the other image
    described = json.loads((tmp_path / "out/dataset.json").read_text())
    assert described["labels"] == {"background": 0, "iso": 1, "hypo": 2} and described["numTraining"] == 2
    assert read_dataset(tmp_path / "out").class_names == NAMES


def test_outlines_cover_exactly_their_pixels():
    rng = np.random.default_rng(0)
    for density in (0.3, 0.6, 0.9):
        mask = rng.random((9, 13)) < density
        crop, exact = Crop(3, 2, mask), encode_crop(Crop(3, 2, mask), 20, 30)
        outline, _ = trace_joined(crop, 20, 30)
        whole = np.zeros((20, 30), bool)
        whole[3:12, 2:15] = mask
        runs = coco_mask.frPyObjects([outline], 20, 30)[0]
        assert runs["counts"] == exact
        parts = [polygon2mask((20, 30), each[:, ::-1] - 0.5) for each in trace_contours(crop)]
        np.testing.assert_array_equal(np.sum(parts, axis=0), whole)
    hollow = np.pad(np.zeros((1, 1), bool), 1, constant_values=True)
    assert trace_pieces(Crop(0, 0, hollow), 20, 30) is None


def test_names_stay_in_the_folder_and_apart():
    assert written_stems(["images/a.png", "a.jpg", "../x/b.png", "c.nii.gz:12", "x_b.tif", "d.1"]) == [
        "a", "a_2", "x/b", "c_12", "x_b_2", "d.1"
    ]  # fmt: skip


def test_a_folder_with_files_and_pixels_of_four_channels_are_refused(source, tmp_path):
    with pytest.raises(InputError, match="contains files; expected a new or an empty folder"):
        write_dataset(read_dataset(source), source, "coco")
    assert tuple(FORMS) == convert.FORMS
