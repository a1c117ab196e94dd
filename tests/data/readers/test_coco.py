"""The COCO reader on sets small enough to know all about them."""

import json
import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.errors import InputError


def test_reads_what_the_file_says(coco, write_coco):
    coco["images"][0] |= {"patient_id": 12, "spacing_mm": 0.5, "label": "benign"}
    coco["images"][1] |= {"patient_id": "p2", "spacing_mm": [0.1, 0.2]}
    dataset = read_dataset(write_coco(coco))
    assert dataset.class_names == ("iso", "hypo")  # in order of the category ids 3, 7
    assert dataset.warnings == ()
    assert len(dataset) == 2
    first, second = dataset.records
    assert (first.patient_id, first.spacing_mm, first.label) == ("12", (0.5, 0.5), "benign")
    assert (second.patient_id, second.spacing_mm, second.label) == ("p2", (0.1, 0.2), None)
    assert second.class_ids.tolist() == [2, 1]
    assert second.class_ids.dtype == np.int32
    assert second.boxes.tolist() == [[2, 3, 7, 6], [10, 1, 20, 12]]
    assert second.boxes.dtype == np.float32
    assert second.areas.tolist() == [15, 110]

    sample = dataset[1]
    assert sample.image.shape == (12, 20, 3)
    assert sample.masks.shape == (2, 12, 20)
    assert sample.masks[0].sum() == 15 and sample.masks[0, 3:6, 2:7].all()
    assert (sample.source, sample.patient_id) == ("b_1.png", "p2")


def test_reads_the_json_itself_and_images_beside_it(coco, write_coco):
    folder = write_coco(coco, images=".")
    (folder / "annotations.json").rename(folder / "labels_makesense.json")
    assert len(read_dataset(folder / "labels_makesense.json")) == 2
    assert len(read_dataset(folder)) == 2  # the only JSON


def test_an_image_without_instances_stays(coco, write_coco):
    coco["annotations"] = coco["annotations"][:1]
    dataset = read_dataset(write_coco(coco))
    sample = dataset[0]
    assert sample.masks.shape == (0, 12, 20)
    assert sample.class_ids.shape == (0,)
    assert dataset.records[0].boxes.shape == (0, 4)
    coco["annotations"] = []
    assert [len(record.class_ids) for record in read_dataset(write_coco(coco)).records] == [0, 0]


def test_crowds_and_empty_instances_are_left_out_with_a_count(coco, write_coco):
    coco["annotations"][1]["iscrowd"] = 1
    coco["annotations"][0]["segmentation"] = [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]]
    dataset = read_dataset(write_coco(coco))
    assert [record.areas.tolist() for record in dataset.records] == [[], [110]]
    assert any("1 annotation marks a crowd" in warning for warning in dataset.warnings)
    assert any("annotations without any pixel" in warning for warning in dataset.warnings)


def test_categories_of_one_name_are_one_class(coco, write_coco):
    coco["categories"].append({"id": 9, "name": "iso"})
    coco["annotations"][0]["category_id"] = 9
    dataset = read_dataset(write_coco(coco))
    assert dataset.class_names == ("iso", "hypo")
    assert dataset.records[1].class_ids.tolist() == [1, 1]
    assert any("2 categories are called 'iso'" in warning for warning in dataset.warnings)


def test_patients_from_the_file_name(coco, write_coco):
    coco["images"][1]["patient_id"] = "stated"
    folder = write_coco(coco)
    patients = [record.patient_id for record in read_dataset(folder, patient_pattern=r"^(\w)_").records]
    assert patients == ["a", "stated"]
    assert read_dataset(folder, patient_pattern=r"^[a-z]").records[0].patient_id == "a"
    found = read_dataset(folder)
    assert found.records[0].patient_id == "a_1.png"
    assert any("1 of 2 images name no patient" in warning for warning in found.warnings)


def test_patient_patterns_that_fail(coco, write_coco):
    folder = write_coco(coco)
    with pytest.raises(InputError, match=r"b_1\.png: no patient found by patient_pattern '\^\(a\)'"):
        read_dataset(folder, patient_pattern="^(a)")
    with pytest.raises(InputError, match="not a regular expression"):
        read_dataset(folder, patient_pattern="(")


def test_a_folder_of_links_is_fine(coco, write_coco, tmp_path):
    folder = write_coco(coco, tmp_path / "real", images=".")
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    assert len(read_dataset(linked)) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c["annotations"][0].update(image_id=[1]), r"annotations id 1: image_id \[1\] is not among"),
        (lambda c: c["annotations"].append(5), r"annotations\[3\]: expected an object with an id"),
        (lambda c: c["images"][0].update(id=2), r"images\[1\]: id 2 stands twice"),
        (lambda c: c["images"][0].pop("id"), r"images\[0\]: expected an object with an id"),
        (lambda c: c["images"][0].update(file_name="/etc/hostname"), "'/etc/hostname' is neither in"),
        (lambda c: c["images"][0].update(file_name=None), "file name None; expected a path"),
        (lambda c: c["images"][0].update(file_name="b_1.png"), r"b_1\.png stands in 2 entries"),
        (lambda c: c["images"][0].update(width=21), r"a_1\.png has 20×12 pixels; expected 21×12"),
        (lambda c: c["images"][0].update(width=0), "height 12, width 0; expected pixels"),
        (lambda c: c["images"][0].update(height="12.5"), "height '12.5', width 20; expected pixels"),
        (lambda c: c["images"][0].update(spacing_mm=-1), "spacing_mm -1; expected"),
        (lambda c: c["images"][0].update(spacing_mm=[1, 2, 3]), r"spacing_mm \[1, 2, 3\]; expected"),
        (lambda c: c["categories"][0].update(id=3), r"categories\[1\]: id 3 stands twice"),
        (lambda c: c["categories"][0].update(id="x"), r"categories\[0\]: expected an object with an id"),
        (lambda c: c["categories"][0].update(name=" "), "categories id 7: name ' '; expected a text"),
        (lambda c: c.update(images=[], annotations=[]), "images: empty"),
        (lambda c: c.update(categories=[], annotations=[]), "categories: empty"),
        (lambda c: c.pop("annotations"), "annotations: expected a list; is this a COCO file"),
        (lambda c: c.pop("categories"), "categories: expected a list"),
        (lambda c: c.update(images={}), "images: expected a list"),
    ],
)
def test_wrong_input_is_named(coco, write_coco, spoil, message):
    folder = write_coco(coco)
    spoil(coco)
    (folder / "annotations.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=message) as caught:
        read_dataset(folder)
    assert str(caught.value).startswith(f"{folder / 'annotations.json'}: ")


def test_all_problems_are_told_at_once(coco, write_coco):
    folder = write_coco(coco)
    coco["images"][0]["spacing_mm"] = "x"
    coco["annotations"][0]["segmentation"] = []
    coco["annotations"] += [{"id": 100 + index, "image_id": 55, "category_id": 3} for index in range(30)]
    (folder / "annotations.json").write_text(json.dumps(coco))
    with pytest.raises(InputError) as caught:
        read_dataset(folder)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("annotations.json: 32 problems")
    assert len(lines) == 22
    assert lines[-1].strip() == "… and 12 more"


def test_no_json_or_no_choice(tmp_path, coco, write_coco):
    with pytest.raises(InputError, match="no such file or folder"):
        read_dataset(tmp_path / "none")
    with pytest.raises(InputError, match="no such file or folder"):
        read_dataset(tmp_path / "none", "coco")
    with pytest.raises(InputError, match=r"expected annotations\.json or a single \*\.json, .*; found none"):
        read_dataset(tmp_path, "coco")
    with pytest.raises(InputError, match=r"no known form of annotations is there; expected one of .*coco"):
        read_dataset(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(InputError, match=r"found a\.json, b\.json"):
        read_dataset(tmp_path, "coco")
    (tmp_path / "annotations.json").write_text("{broken")
    with pytest.raises(InputError, match="not a JSON file"):
        read_dataset(tmp_path)
    (tmp_path / "annotations.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a JSON file"):
        read_dataset(tmp_path)
    (tmp_path / "annotations.json").write_text("[]")
    with pytest.raises(InputError, match="expected a COCO object"):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match=r"reader='excel': expected auto or one of .*coco"):
        read_dataset(tmp_path, "excel")


def test_a_damaged_image_is_told_when_reading(coco, write_coco):
    folder = write_coco(coco)
    (folder / "images" / "a_1.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"images id 1: .*a_1\.png: expected a readable"):
        read_dataset(folder)


def test_an_image_that_changes_afterwards_is_told_when_opened(coco, write_coco):
    folder = write_coco(coco)
    dataset = read_dataset(folder)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "images" / "a_1.png")
    with pytest.raises(InputError, match=r"a_1\.png: image is 5×5 pixels; the annotations expect 20×12"):
        dataset[0]


def test_digest_follows_content_only(coco, write_coco, tmp_path):
    def digest(content, folder):
        return read_dataset(write_coco(content, tmp_path / folder), patient_pattern=".").digest

    first = digest(coco, "first")
    assert first == digest(coco, "copy")
    assert len(first) == 64
    dataset = read_dataset(tmp_path / "first", patient_pattern=".")
    assert dataset.subset([1, 0]).digest == first
    assert dataset.subset([1]).digest != first

    turned = json.loads(json.dumps(coco))
    turned["annotations"].reverse()
    assert digest(turned, "turned") == first

    moved = json.loads(json.dumps(coco))
    moved["annotations"][0]["segmentation"][0][0] += 1
    assert digest(moved, "moved") != first

    relabeled = json.loads(json.dumps(coco))
    relabeled["annotations"][0]["category_id"] = 3
    assert digest(relabeled, "relabeled") != first

    image = tmp_path / "copy" / "images" / "a_1.png"
    pixels = np.array(Image.open(image))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(image)
    assert read_dataset(tmp_path / "copy", patient_pattern=".").digest != first


def test_pickled_and_subset(coco, write_coco):
    dataset = read_dataset(write_coco(coco))
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[1].masks, dataset[1].masks)
    part = dataset.subset(np.array([1]))
    assert (len(part), part.class_names, part.warnings) == (1, dataset.class_names, dataset.warnings)
    np.testing.assert_array_equal(part[0].image, dataset[1].image)
    assert [sample.source for sample in dataset] == ["a_1.png", "b_1.png"]
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize(
    ("name", "pattern", "images", "instances", "classes"),
    [
        ("thyroid/seed", r"^(\d+)_", 43, [14, 30], ("nodulo-iso", "nodulo-hipo")),
        ("thyroid/ddti", None, 354, [491], ("nodule",)),
        ("nuclei", None, 236, [7207], ("nucleus",)),
    ],
)
def test_real_sets(shared_data, name, pattern, images, instances, classes):
    dataset = read_dataset(shared_data / name, patient_pattern=pattern)
    class_ids = np.concatenate([record.class_ids for record in dataset.records])
    assert dataset.class_names == classes
    assert len(dataset) == images
    assert np.bincount(class_ids, minlength=len(classes) + 1)[1:].tolist() == instances
    for index in (0, images // 2, images - 1):
        sample, record = dataset[index], dataset.records[index]
        assert sample.masks.sum(axis=(1, 2)).tolist() == record.areas.tolist()
        for mask, box in zip(sample.masks, record.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_reading_warns_through_the_data_set_only(coco, write_coco):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_dataset(write_coco(coco))
