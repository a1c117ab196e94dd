"""One broken data set of each form, with everything wrong at once: all of it is told by one reading, by file and id."""

import json
import math
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mrcnn.data import find_duplicates, read_dataset
from mrcnn.data.problems import DataError
from mrcnn.data.readers import read_all
from mrcnn.data.readers.segmentation import CROSSING
from mrcnn.data.validation import validate_images
from mrcnn.errors import InputError

HEIGHT, WIDTH = 12, 20
SQUARE = [2, 3, 7, 3, 7, 6, 2, 6]
RNG = np.random.default_rng(4)


def write_image(path, height=HEIGHT, width=WIDTH):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


def spoil_images(folder):
    """Six images of one form or another that cannot be read, by name, with what is told of each."""
    write_image(folder / "cut.png")
    cut = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(cut[:200])  # its header is whole
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture")
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = "1.2.840.10008.5.1.4.1.1.7", "1.2.3", "SR"
    dataset.save_as(folder / "report.dcm", enforce_file_format=True)
    return {
        "cut.png": "cut.png: expected a readable",
        "empty.png": r"empty\.png: is empty",
        "text.png": r"text\.png: expected a readable",
        "report.dcm": r"report\.dcm: DICOM without pixels \(modality SR\)",
    }


def all_problems(folder, form, **options):
    """Every line that is told when all images are opened as well, and what is left when they are passed over."""
    dataset = read_all(folder, form, **options)
    find_duplicates(dataset, problems=dataset.problems)
    with pytest.raises(DataError) as caught:
        dataset.problems.raise_if_any()
    opened = read_all(folder, form, **options)
    validate_images(opened, opened.problems)
    assert sorted(fault.problem for fault in opened.problems.faults) == sorted(caught.value.problems)
    sound = dataset.without_invalid()
    assert sound.skipped == caught.value.problems
    for sample in sound:
        assert sample.masks.shape[1:] == sample.image.shape[:2]
    return list(caught.value.problems), sound


def assert_each_once(problems, patterns):
    import re

    assert len(problems) == len(patterns), "\n".join(problems)
    for pattern in patterns:
        assert sum(re.search(pattern, problem) is not None for problem in problems) == 1, (pattern, problems)


def coco_with(folder):
    """A COCO set whose first image is sound, and each of the others is not."""
    told = {f"images id .*{pattern}" if name != "cut.png" else pattern: name
            for name, pattern in spoil_images(folder).items()}  # fmt: skip
    for name in ("sound.png", "small.png", "other.png", *(f"drawn_{key}.png" for key in range(11)), "twice.png"):
        write_image(folder / name, *((HEIGHT, WIDTH) if name != "small.png" else (5, 5)))
    names = ["sound.png", *told.values(), "small.png", "none.png", "../../outside.png", *(
        f"drawn_{key}.png" for key in range(11)), "twice.png", "twice.png", "other.png"]  # fmt: skip
    images = [{"id": key, "file_name": name, "height": HEIGHT, "width": WIDTH} for key, name in enumerate(names)]
    images[-1]["width"] = math.nan
    first = names.index("drawn_0.png")
    size = [HEIGHT, WIDTH]
    bad = [
        ({"segmentation": [[1, 1, 5, 5]]}, "polygon with 2 points"),
        ({"segmentation": [[30, 1, 35, 1, 35, 5]]}, "lies outside its image"),
        ({"segmentation": [[1, 1, 5, 1, 5, math.nan]]}, "not a finite number"),
        ({"segmentation": {"size": size, "counts": [10, 5]}}, "run lengths for 15 pixels; expected 240"),
        ({"segmentation": {"size": [5, 5], "counts": [25]}}, r"has size \[5, 5\]; expected \[12, 20\]"),
        ({"bbox": [1, 1, 4, 4]}, "has a bbox and no segmentation"),
        ({"segmentation": []}, "segmentation is missing or empty"),
        ({}, "segmentation is missing or empty"),
        ({"category_id": 9, "segmentation": [SQUARE]}, "category_id 9 is not among the categories"),
        ({"id": 1000, "segmentation": [SQUARE]}, "id 1000 stands twice"),
        ({"segmentation": [[1, 1, 5, 1, 5, 1e9]]}, "far outside its image"),
    ]
    annotations = [{"id": 1000, "image_id": 0, "category_id": 1, "segmentation": [SQUARE]}]
    for key, (content, pattern) in enumerate(bad):
        annotations.append({"id": key, "image_id": first + key, "category_id": 1} | content)
        told[rf"annotations (id {key}:|\[{key + 1}\]:)? ?.*{pattern}" if "twice" not in pattern else pattern] = ""
    # Of two alike the pattern names the id.
    told = {pattern: name for pattern, name in told.items() if "missing or empty" not in pattern}
    told |= {rf"annotations id {key}: segmentation is missing or empty": "" for key in (6, 7)}
    annotations.append({"id": 77, "image_id": 99, "category_id": 1, "segmentation": [SQUARE]})
    told |= {
        r"images id \d+: small\.png has 5×5 pixels; expected 20×12": "",
        r"images id \d+: 'none\.png' is neither in": "",
        r"images id \d+: '\.\./\.\./outside\.png' is neither in": "",
        r"images id \d+: height 12, width nan; expected pixels": "",
        r"twice\.png stands in 2 entries": "",
        "annotations id 77: image_id 99 is not among the images": "",
    }
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nodule"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return list(told)


def test_coco(tmp_path):
    problems, sound = all_problems(tmp_path, "coco") if (told := coco_with(tmp_path)) else None
    assert_each_once(problems, told)
    assert [record.file_name for record in sound.records] == ["sound.png"]
    with pytest.raises(InputError, match=f"annotations.json: {len(told) - 1} problems"):  # the cut one is not opened
        read_dataset(tmp_path)
    assert [record.file_name for record in read_dataset(tmp_path, on_error="skip").records] == ["sound.png", "cut.png"]


def test_what_can_be_lived_with_is_a_warning_with_ids(tmp_path):
    write_image(tmp_path / "a.png")
    drawn = [
        [[2, 2, 8, 8, 8, 2, 2, 8]],  # a bow tie
        [[10, 2, 24, 2, 24, 6, 10, 6]],  # four pixels beyond the border
        [SQUARE],
        [SQUARE],
        [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]],  # covers no pixel
        [[14, 7, 20.6, 7, 20.6, 9, 14, 9]],  # a rounding beyond the border
    ]
    annotations = [{"id": key, "image_id": 1, "category_id": 1, "segmentation": each} for key, each in enumerate(drawn)]
    image = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "patient_id": "p"}
    content = {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "nodule"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path)
    assert dataset.warnings == (
        f"annotations {CROSSING}: annotations id 0",
        "annotations reach beyond their image and are clipped: annotations id 1",
        "annotations without any pixel are left out: annotations id 4",
        "annotations are drawn twice, another of their image has the same mask: annotations id 3",
    )
    assert dataset.records[0].boxes[1].tolist() == [10, 2, 20, 6]


def test_via(tmp_path):
    told = list(spoil_images(tmp_path).values())
    regions = [
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "polygon with 2 points"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "of one length"),
        ({"name": "polygon", "all_points_x": [1, 5, math.nan], "all_points_y": [1, 2, 3]}, "not a finite number"),
        ({"name": "polygon", "all_points_x": [31, 35, 33], "all_points_y": [1, 2, 3]}, "lies outside its image"),
        ({"name": "rect", "x": 1, "y": 1, "width": 0, "height": 2}, "without an extent"),
        ({"name": "circle", "cx": math.inf, "cy": 1, "r": 2}, "expected finite numbers"),
        ({"name": "point", "cx": 1, "cy": 1}, "has no area"),
        (5, "expected shape_attributes"),
    ]
    shapes = [[shape] for shape, _ in regions] + [[{"name": "rect", "x": 2, "y": 3, "width": 5, "height": 3}]]
    names = [*spoil_images(tmp_path), "none.png", "../../outside.png", *(f"drawn_{key}.png" for key in range(9))]
    for name in names[6:]:
        write_image(tmp_path / name)
    drawn = [[{"shape_attributes": shape, "region_attributes": {}} for shape in each] for each in [[]] * 6 + shapes]
    content = {
        str(key): {"filename": name, "regions": each} for key, (name, each) in enumerate(zip(names, drawn, strict=True))
    }
    (tmp_path / "via_region_data.json").write_text(json.dumps(content | {"x": "no entry"}))
    problems, sound = all_problems(tmp_path, "via")
    told += [rf"drawn_{key}\.png, region 0: .*{pattern}" for key, (_, pattern) in enumerate(regions)]
    told += [
        "'none.png' is neither in",
        r"'\.\./\.\./outside\.png' is neither in",
        "x: expected an object with filename",
    ]
    assert_each_once(problems, told)
    assert [record.file_name for record in sound.records] == ["drawn_8.png"]


def test_masks(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    told = list(spoil_images(tmp_path / "images").values())
    masks = {
        "sound.png": np.eye(HEIGHT, WIDTH, dtype=np.uint8),
        "small.png": np.eye(5, dtype=np.uint8),
        "nan.npy": np.full((HEIGHT, WIDTH), np.nan),
        "words.npy": np.full((HEIGHT, WIDTH), "x"),
        "below.npy": np.full((HEIGHT, WIDTH), -1),
        "stack.npy": np.arange(3 * HEIGHT * WIDTH).reshape(3, HEIGHT, WIDTH),
        "empty.png": None,
        "nobody.png": np.eye(HEIGHT, WIDTH, dtype=np.uint8),
    }
    for name, mask in masks.items():
        if name.endswith(".npy"):
            np.save(tmp_path / "masks" / name, mask)
        elif mask is not None:
            Image.fromarray(mask).save(tmp_path / "masks" / name)
        if name not in ("nobody.png", "empty.png"):
            write_image(tmp_path / "images" / f"{name.partition('.')[0]}.png")
    write_image(tmp_path / "images" / "hollow.png")
    (tmp_path / "masks" / "hollow.png").touch()
    problems, sound = all_problems(tmp_path, "masks")
    told += [
        r"small\.png: has 5×5 pixels; its image has 20×12",
        r"nan\.npy: expected whole numbers",
        r"words\.npy: holds <U1; expected whole numbers",
        r"below\.npy: holds -1; expected numbers from 0",
        r"stack\.npy: has the shape",
        r"hollow\.png: expected a readable mask",
        r"nobody\.png: no image of that name",
        *(rf"images/{name}\.\w+: has no mask, yet masks/nobody\.png" for name in ("cut", "empty", "text", "report")),
    ]
    assert_each_once(problems, told)
    assert [record.file_name for record in sound.records] == ["images/sound.png"]


def test_lgg(tmp_path):
    for number in range(1, 9):
        write_image(tmp_path / "p" / f"p_{number}.tif")
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "p" / f"p_{number}_mask.tif")
    (tmp_path / "p" / "p_2.tif").write_bytes(b"")
    (tmp_path / "p" / "p_3_mask.tif").write_text("none")
    (tmp_path / "p" / "p_4_mask.tif").unlink()
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "p" / "p_5_mask.tif")
    Image.fromarray(np.arange(240, dtype=np.uint8).reshape(HEIGHT, WIDTH)).save(tmp_path / "p" / "p_6_mask.tif")
    cut = (tmp_path / "p" / "p_7.tif").read_bytes()
    (tmp_path / "p" / "p_7.tif").write_bytes(cut[: len(cut) // 2])
    write_image(tmp_path / "p" / "cover.tif")
    problems, sound = all_problems(tmp_path, "lgg")
    told = [
        r"p_2\.tif: is empty", r"p_3_mask\.tif: expected a readable", r"p_4\.tif: has no mask",
        r"p_5_mask\.tif: has 5×5 pixels; its image has 20×12", r"p_6_mask\.tif: holds 240 values",
        r"p_7\.tif: expected a readable", r"cover\.tif: expected a name that ends in the number",
    ]  # fmt: skip
    assert_each_once(problems, told)
    assert [record.file_name for record in sound.records] == ["p/p_1.tif", "p/p_8.tif"]


def test_brats(tmp_path, write_case, write_nifti, head):
    for name in ("sound", "shape", "moved", "cut", "hollow", "bare", "codes", "nan"):
        folder = write_case(name)
    labels = head[1]
    write_nifti(folder / "shape" / "shape_t2.nii.gz", np.zeros((5, 5, 5), np.int16))
    write_nifti(folder / "moved" / "moved_t1.nii.gz", np.zeros(labels.shape, np.int16), np.diag([-2.0, -2.0, 2.0, 1.0]))
    file = folder / "cut" / "cut_t1ce.nii.gz"
    file.write_bytes(file.read_bytes()[:300])  # its header is whole
    (folder / "hollow" / "hollow_t1.nii.gz").write_bytes(b"")
    (folder / "bare" / "bare_seg.nii.gz").unlink()
    write_nifti(folder / "codes" / "codes_seg.nii.gz", labels * 20)
    write_nifti(folder / "nan" / "nan_flair.nii.gz", np.full(labels.shape, np.nan, np.float32))
    problems, sound = all_problems(folder, "volumes", layout="brats")
    told = [
        r"shape_flair\.nii\.gz and shape_t2\.nii\.gz: expected one grid",
        r"moved_flair\.nii\.gz and moved_t1\.nii\.gz: expected one grid",
        r"hollow_t1\.nii\.gz: expected a readable NIfTI file \(empty, 0 bytes\)",
        "bare: has no label map",
        r"codes_seg\.nii\.gz: holds the values .*; expected the labels 0 to 4",
        r"nan_flair\.nii\.gz: voxels are NaN",
        r"cut_t1ce\.nii\.gz: expected a readable",
    ]
    assert_each_once(problems, told)
    assert {record.place.volume for record in sound.records} == {"sound"}


def test_nothing_left_fails_also_when_skipping(tmp_path):
    coco_with(tmp_path)
    (tmp_path / "sound.png").unlink()
    (tmp_path / "cut.png").unlink()
    with pytest.raises(DataError, match=r"\d+ problems"):
        read_dataset(tmp_path, on_error="skip")
    (tmp_path / "annotations.json").write_text('{"images": [')
    with pytest.raises(InputError, match="not a JSON file"):
        read_dataset(tmp_path, on_error="skip")
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read_dataset(tmp_path, on_error="skip")
