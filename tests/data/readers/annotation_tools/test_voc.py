"""The reader of PASCAL VOC and of CVAT's "Segmentation mask 1.1"."""

import numpy as np
import pytest
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SIZE = 40, 60
PALETTE = [
    channel
    for number in range(256)
    for channel in (
        (number & 1) << 7 | (number >> 3 & 1) << 6,
        (number >> 1 & 1) << 7 | (number >> 4 & 1) << 6,
        (number >> 2 & 1) << 7 | (number >> 5 & 1) << 6,
    )
]
"""The first 64 colors of VOC's map; (128, 0, 0) is 1, (0, 128, 0) is 2."""
PALETTE[255 * 3 :] = [224, 224, 192]
LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncyst:250,50,83::\nnodule:51,221,255::\n"
COLORS = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255)], np.uint8)


def masks():
    """Classes and numbers of three instances; the first two touch, and void surrounds them."""
    classes, objects = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    classes[2:16, 3:26] = objects[2:16, 3:26] = 255
    classes[3:15, 4:14], objects[3:15, 4:14] = 1, 1
    classes[3:15, 14:25], objects[3:15, 14:25] = 1, 2
    classes[20:30, 30:50], objects[20:30, 30:50] = 2, 3
    return classes, objects


@pytest.fixture
def write(tmp_path, save_images):
    """Writes the layout with masks saved by `save(values, path)`."""

    def write(save, classes=None, objects=None, label_map=LABEL_MAP, root=tmp_path):
        drawn = masks()
        save_images(root / "JPEGImages", "a.JPG", "b.jpg")
        for folder, values in (
            ("SegmentationClass", drawn[0] if classes is None else classes),
            ("SegmentationObject", drawn[1] if objects is None else objects),
        ):
            (root / folder).mkdir(exist_ok=True)
            save(values, root / folder / "a.png")
            save(np.zeros(SIZE, np.uint8), root / folder / "b.png")
        if label_map:
            (root / "labelmap.txt").write_text(label_map)
        return tmp_path

    return write


def as_palette(values, path):
    image = Image.fromarray(values).convert("P")
    image.putdata(values.ravel().tolist())
    image.putpalette(PALETTE)
    image.save(path)


def as_color(values, path):
    if path.parent.name == "SegmentationClass":
        values = np.where(values == 255, 0, values)  # CVAT has no void
        Image.fromarray(COLORS[values]).save(path)
    else:
        colors = np.random.default_rng(0).integers(1, 256, (256, 3)).astype(np.uint8)
        Image.fromarray(np.where(values[..., None] % 255 > 0, colors[values], 0).astype(np.uint8)).save(path)


def as_gray(values, path):
    Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("save", "label_map", "names"),
    [
        (as_palette, "", ("aeroplane", "bicycle")),
        (as_color, LABEL_MAP, ("cyst", "nodule")),
        (as_gray, LABEL_MAP, ("cyst", "nodule")),
    ],
)
def test_masks_by_color_or_value(write, save, label_map, names, tmp_path):
    for split, name in (("train", "a"), ("val", "b"), ("trainval", "a")):
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(f"{name}\n")
    dataset = read_dataset(write(save, label_map=label_map))
    _, objects = masks()
    assert [dataset.class_names[number - 1] for number in dataset.records[0].class_ids] in (
        [names[0], names[0], names[1]], [names[0], names[1], names[0]], [names[1], names[0], names[0]],
    )  # fmt: skip
    found = sorted(dataset[0].masks, key=lambda mask: mask.argmax())
    for mask, number in zip(found, (1, 2, 3), strict=True):
        np.testing.assert_array_equal(mask, objects == number)
    assert [record.file_name for record in dataset.records] == ["JPEGImages/a.JPG", "JPEGImages/b.jpg"]
    assert [record.split for record in dataset.records] == ["train", "val"] and len(dataset.records[1].class_ids) == 0


def test_the_folder_of_an_archive_and_pieces_without_objects(write, tmp_path, save_images):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    root.mkdir(parents=True)
    write(as_palette, label_map="", root=root)
    for file in (root / "SegmentationObject").iterdir():
        file.unlink()
    (root / "SegmentationObject").rmdir()
    save_images(root / "JPEGImages", "c.jpg")
    dataset = read_dataset(tmp_path)
    assert sorted(dataset.records[0].areas.tolist()) == [10 * 20, 12 * 21]
    text = "\n".join(dataset.warnings)
    assert "each connected piece of a class counts as one instance" in text
    assert "images have no mask in SegmentationClass and are left out, as no list has them: VOCdevkit/" in text
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("a\nb\nc\n")
    dataset = read_dataset(tmp_path)
    assert [len(record.class_ids) for record in dataset.records] == [2, 0, 0]
    assert any("have no mask in SegmentationClass and count as images without" in each for each in dataset.warnings)


def test_masks_without_images(write, tmp_path):
    write(as_gray)
    (tmp_path / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"expected the images in JPEGImages; CVAT exports them if `Save images` is"):
        read_dataset(tmp_path)


def test_classes_without_colors(write):
    dataset = read_dataset(write(as_palette, label_map="background:::\ncyst:::\nnodule:::\n"))
    assert dataset.class_names == ("cyst", "nodule") and dataset.records[0].class_ids.tolist() == [1, 1, 2]


def box(name, *corners):
    values = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners))  # noqa: B905
    return f"<object><name>{name}</name><bndbox>{values}</bndbox></object>"


@pytest.fixture
def write_boxes(tmp_path, save_images):
    def write(*objects, folder="Annotations", size=(60, 40)):
        save_images(tmp_path / "JPEGImages", "a.jpg", "b.jpg")
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, drawn in (("a", objects), ("b", ())):
            (tmp_path / folder / f"{name}.xml").write_text(
                f"<annotation><filename>{name}.jpg</filename><path>C:\\x\\{name}.jpg</path><size><width>{size[0]}</width>"
                f"<height>{size[1]}</height><depth>3</depth></size>{''.join(drawn)}</annotation>"
            )
        return tmp_path

    return write


def test_boxes(write_boxes):
    dataset = read_dataset(write_boxes(box("nodule", 3, 4, 7, 6), box("cyst", 1, 1, 60, 40)))
    assert dataset.class_names == ("cyst", "nodule")
    assert dataset.records[0].boxes.tolist() == [[2, 3, 7, 6], [0, 0, 60, 40]]
    assert any("2 annotations are boxes without an outline" in warning for warning in dataset.warnings)


def test_a_folder_for_each_split(tmp_path, save_images):
    """As Roboflow exports PASCAL VOC: all folders are read, not the first alone."""
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        save_images(tmp_path / split, f"{name}.jpg")
        (tmp_path / split / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>60</width><height>40</height></size>"
            f"{box('cyst', 3, 4, 7, 6)}</annotation>"
        )
    dataset = read_dataset(tmp_path)
    assert [record.split for record in dataset.records] == ["test", "train", "val"]
    assert [record.boxes.tolist() for record in dataset.records] == [[[2, 3, 7, 6]]] * 3


@pytest.mark.parametrize("form", ["roboflow", "labelme"])
def test_polygons_of_objects_are_their_outlines(write_boxes, form):
    corners = [(2, 3), (7, 3), (7, 6), (2, 6)]
    if form == "roboflow":
        text = "".join(f"<x{n}>{x}.0</x{n}><y{n}>{y}.0</y{n}>" for n, (x, y) in enumerate(corners, start=1))
    else:
        text = "<username>a</username>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners)
    outlined = box("cyst", 1, 1, 30, 30).replace("</object>", f"<polygon>{text}</polygon></object>")
    dataset = read_dataset(write_boxes(outlined, box("nodule", 11, 11, 20, 20)))
    assert dataset.records[0].boxes.tolist() == [[2, 3, 7, 6], [10, 10, 20, 20]]
    assert dataset.records[0].areas.tolist() == [15, 100]
    assert any("annotations are boxes without an outline" in warning for warning in dataset.warnings)
    with pytest.raises(InputError, match="object 0: has the coordinate 'None'"):
        read_dataset(write_boxes(outlined.replace("y2" if form == "roboflow" else "<y>3</y>", "q", 2)))


def test_masks_are_preferred_to_boxes(write_boxes):
    folder = write_boxes(box("nodule", 3, 4, 7, 6), folder=".")
    for name in "ab":
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(masks()[0] % 255).save(folder / "masks" / f"{name}.png")
    (folder / "JPEGImages").rename(folder / "images")
    assert read_dataset(folder).records[0].areas.sum() > 15


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (box("cyst", 9, 4, 7, 6), r"Annotations/a\.xml, object 0: has a box that ends before it begins"),
        (box("cyst", 9, 4, "x", 6), "has the coordinate 'x'"),
        (box("cyst", 9, 4), "has the coordinate 'None'"),
        (box("cyst", 90, 4, 97, 6), "lies outside its image"),
        (box("", 9, 4, 17, 6), "class ''; expected a text|class None; expected a text"),
        ("<object><name>cyst</name></object>", "has no bndbox"),
        ("<object>", "not an XML file"),
    ],
)
def test_damaged_boxes_are_named(write_boxes, wrong, message):
    folder = write_boxes(wrong)
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [record.file_name for record in read_dataset(folder, on_error="skip").records] == ["JPEGImages/b.jpg"]


def test_damaged_masks_are_named(write, tmp_path):
    classes, objects = masks()
    unknown, lone, several = classes.copy(), objects.copy(), classes.copy()
    unknown[0, 0], lone[25, 35], several[3, 4] = 9, 0, 2
    for changed, message in (
        ({"classes": unknown}, r"SegmentationClass/a\.png: holds the value 9; expected one of labelmap\.txt"),
        ({"objects": lone}, "leaves out pixels that have a class"),
        ({"classes": several}, "an instance has cyst and nodule in SegmentationClass; expected one class"),
        ({"classes": np.where(classes == 2, 0, classes)}, "an instance has no class"),
        ({"objects": objects[1:]}, r"SegmentationObject/a\.png: has 60×39 pixels; expected 60×40"),
        ({"classes": classes[1:], "objects": objects[1:]}, r"a\.JPG has 60×40 pixels; expected 60×39"),
        ({"label_map": "cyst\n"}, r"line 1: 'cyst'; expected name:red"),
        ({"label_map": "cyst:1,2::\n"}, r"labelmap\.txt, line 1: 'cyst:1,2::'; expected name:red,green,blue"),
        ({"label_map": "cyst:1,2,3::\nwall:1,2,3::\n"}, "two classes have one name or color"),
    ):
        with pytest.raises(InputError, match=message):
            read_dataset(write(as_gray, **changed))
    folder = write(
        as_palette, classes=unknown, label_map="background:0,0,0::\naeroplane:128,0,0::\nbicycle:0,128,0::\n"
    )
    with pytest.raises(InputError, match=r"holds the color \(192, 0, 0\); expected one of labelmap"):
        read_dataset(folder)
    write(as_gray)
    file = tmp_path / "SegmentationObject" / "a.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(InputError, match=r"SegmentationObject/a\.png: expected a readable PNG mask"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path, on_error="skip")) == 1
    file.rename(file.with_name("c.png"))
    with pytest.raises(InputError, match=r"(?s)c\.png: no mask of that name.*SegmentationObject/a\.png: is missing"):
        read_dataset(tmp_path)
    file.with_name("c.png").unlink()
    write(as_gray)
    (tmp_path / "JPEGImages" / "a.JPG").unlink()
    with pytest.raises(InputError, match=r"SegmentationClass/a\.png: no image of the name 'a' in .*JPEGImages"):
        read_dataset(tmp_path)
