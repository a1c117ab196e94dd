"""The reader of CSV tables: Kaggle's run lengths, and boxes."""

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.errors import InputError


def runs_of(mask):
    """Kaggle's run lengths of a mask: starts from 1 down the columns, counted pixel by pixel."""
    pairs, last = [], False
    for place, value in enumerate(mask.T.ravel().tolist(), start=1):
        if value and not last:
            pairs.append([place, 0])
        if value:
            pairs[-1][1] += 1
        last = value
    return " ".join(f"{start} {length}" for start, length in pairs)


@pytest.fixture
def write(tmp_path, save_images):
    def write(text, *names, name="train.csv"):
        save_images(tmp_path / "images", *(names or ("a.png", "b.png")))
        (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_run_lengths(write):
    masks = np.random.default_rng(1).random((3, 40, 60)) > 0.7
    rows = [f"a,{runs_of(masks[0])}", f"a,{runs_of(masks[1])}", f"b,{runs_of(masks[2])}", "c,", "d,-1"]
    folder = write("\n".join(["ImageId,EncodedPixels", *rows]), "a.png", "b.jpg", "c.PNG", "d.png")
    dataset = read_dataset(folder)
    assert dataset.class_names == ("object",)
    names = [record.file_name for record in dataset.records]
    assert names == ["images/a.png", "images/b.jpg", "images/c.PNG", "images/d.png"]
    np.testing.assert_array_equal(np.concatenate([dataset[0].masks, dataset[1].masks]), masks)
    assert [len(record.class_ids) for record in dataset.records] == [2, 1, 0, 0]


def test_columns_of_class_patient_and_split(write):
    folder = write(
        "\ufeffpatient_id; image ;class;split;EncodedPixels\r\nP1;a.png;cyst;train;1 3\r\n"
        "P2;images\\b.png;nodule;Valid;\r\nP1;a.png;nodule;train;9 2\r\n"
    )  # fmt: skip
    dataset = read_dataset(folder)
    assert dataset.class_names == ("cyst", "nodule")
    assert [(each.patient_id, each.split) for each in dataset.records] == [("P1", "train"), ("P2", "val")]
    assert dataset.records[0].areas.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "{}.png,60,40,cyst,2,3,7,6"),
        ("image_id,class_name,class_id,x1,y1,x2,y2", "{},cyst,1,2,3,7,6"),
        ("patientId,x,y,width,height,label", "{},2.0,3.0,5.0,3.0,cyst"),
    ],
)
def test_boxes(write, header, row):
    empty = row.format("b").replace("2,3,7,6", ",,,").replace("2.0,3.0,5.0,3.0", ",,,")
    dataset = read_dataset(write(f"{header}\n{row.format('a')}\n{empty}\n"))
    assert dataset.class_names == ("cyst",)
    assert dataset.records[0].boxes.tolist() == [[2, 3, 7, 6]] and len(dataset.records[1].class_ids) == 0
    assert any("annotations are boxes without an outline" in warning for warning in dataset.warnings)
    assert dataset.records[0].patient_id == ("a" if header.startswith("patient") else "images/a.png")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,1 2 3", r"train\.csv, line 2: has run lengths that are not pairs of numbers from 1 to 2400 \(60×40\)"),
        ("a,0 5", "pairs of numbers from 1 to 2400"),
        ("a,1 x", "pairs of numbers"),
        ("a,2399 3", "has a run that ends at pixel 2401; expected at most 2400"),
        ("a,5 3 2 4", "has runs that overlap; expected starts counted from the first pixel"),
        ("c,1 2", r"line 2: c: no image of the name 'c' in"),
        ("a", "line 2: 1 values; expected 2"),
    ],
)
def test_damaged_rows_are_named(write, row, message):
    with pytest.raises(InputError, match=rf"1 problem\n.*{message}"):
        read_dataset(write(f"ImageId,EncodedPixels\n{row}\nb,1 2\n"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,60,41,cyst,2,3,7,6", r"a\.png has 60×40 pixels; expected 60×41"),
        ("a.png,60,40,cyst,7,3,2,6", "has a box that ends before it begins"),
        ("a.png,60,40,cyst,2,3,,6", "has the coordinate ''"),
        ("a.png,60,40,,2,3,7,6", "class ''; expected a text"),
        ("a.png,60,40,cyst,80,3,90,6", "lies outside its image"),
    ],
)
def test_damaged_boxes_are_named(write, row, message):
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    folder = write(f"{header}\n{row}\nb.png,60,40,cyst,2,3,7,6\n")
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [record.file_name for record in read_dataset(folder, on_error="skip").records] == ["images/b.png"]


def test_a_table_in_the_folder_of_each_split(tmp_path, save_images):
    """As Roboflow exports CSV for TensorFlow."""
    for split, name in (("train", "a.jpg"), ("valid", "b.jpg"), ("test", "c.jpg")):
        save_images(tmp_path / split, name)
        (tmp_path / split / "_annotations.csv").write_text(f"filename,class,xmin,ymin,xmax,ymax\n{name},cyst,2,3,7,6\n")
    dataset = read_dataset(tmp_path)
    assert [record.split for record in dataset.records] == ["test", "train", "val"]
    assert [record.boxes.tolist() for record in dataset.records] == [[[2, 3, 7, 6]]] * 3


def test_the_boxes_of_chestxray14(write):
    dataset = read_dataset(
        write("Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Mass,2.0,3.0,5.0,3.0,,,\n", "a.png")
    )
    assert dataset.class_names == ("Mass",) and dataset.records[0].boxes.tolist() == [[2, 3, 7, 6]]


def test_tables_of_something_else_are_not_read(write):
    for text in ("filename,age\na.png,40\n", "Im\r\rageId,split\na,b\n", ""):
        with pytest.raises(InputError, match="no known form"):
            read_dataset(write(text))


def decode_relative(text, height, width):
    """The decoder of SIIM-ACR, written from its description: each start counts from the end of the last run."""
    flat, place = np.zeros(height * width, bool), 0
    for start, length in np.reshape([int(word) for word in text.split()], (-1, 2)):
        place += start
        flat[place : place + length] = True
        place += length
    return flat.reshape(width, height).T


def test_run_lengths_that_count_from_the_last_run(write):
    rng = np.random.default_rng(2)
    texts = [" ".join(map(str, rng.integers(1, 40, 2 * count))) for count in (20, 12, 1)]
    rows = [f"{name},{text}" for name, text in zip("aab", texts, strict=True)]
    dataset = read_dataset(write("\n".join(["ImageId, EncodedPixels", *rows, "c, -1"]), "a.png", "b.png", "c.png"))
    masks = [decode_relative(text, 40, 60) for text in texts]
    np.testing.assert_array_equal(np.concatenate([dataset[0].masks, dataset[1].masks]), masks)
    assert len(dataset.records[2].class_ids) == 0
    assert any("train.csv: starts do not ascend, so each run counts from" in warning for warning in dataset.warnings)


def test_relative_run_lengths_beyond_the_image_are_named(write):
    with pytest.raises(InputError, match="line 2: has a run that ends at pixel 2700; expected at most 2400"):
        read_dataset(write("ImageId,EncodedPixels\na,900 5 800 5 900 90\n"))


def test_images_that_no_row_lists_are_named(write):
    dataset = read_dataset(write("ImageId,EncodedPixels\na,1 5\n", "a.png", "b.png", "c.png"))
    assert (
        "2 images in the folder have no entry with annotations and are left out: images/b.png, images/c.png"
        in " ".join(dataset.warnings)
    )


def drawn_in(shape):
    """Two disks."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.stack([(rows - 15) ** 2 + (columns - at) ** 2 < 90 for at in (14, 40)])


@pytest.mark.parametrize("header", ["id,annotation", "id,rle", "ImageId,EncodedPixels", "img,pixels"])
@pytest.mark.parametrize("by_rows", [False, True])
def test_the_order_of_pixels_is_inferred(tmp_path, save_images, header, by_rows):
    """Sartorius counts along the rows, HuBMAP down the columns; the names of columns do not tell."""
    masks = drawn_in((40, 60))
    save_images(tmp_path, "a.tif", "b.tif")
    texts = [runs_of(mask.T if by_rows else mask) for mask in masks]
    (tmp_path / "train.csv").write_text("\n".join([header, f"a,{texts[0]}", f"a,{texts[1]}", "b,"]))
    (tmp_path / "sample_submission.csv").write_text(f"{header}\nc,1 1\n")
    dataset = read_dataset(tmp_path)
    np.testing.assert_array_equal(dataset[0].masks, masks)
    told = [each for each in dataset.warnings if "as the steps between runs show" in each]
    assert bool(told) == (by_rows or header.startswith("id"))


def test_an_order_that_nothing_shows_is_asked_for(tmp_path, save_images):
    """The other order transposes a square image, so its masks look as well."""
    masks = drawn_in((60, 60))
    save_images(tmp_path, "a.tif", size=(60, 60))
    rows = [f"a,{runs_of(mask.T)}" for mask in masks]
    (tmp_path / "train.csv").write_text("\n".join(["id,rle", *rows]))
    with pytest.raises(InputError, match=r"train\.csv: the runs do not show .*; set csv\.pixel_order"):
        read_dataset(tmp_path)
    np.testing.assert_array_equal(read_dataset(tmp_path, "csv", pixel_order="rows")[0].masks, masks)
    np.testing.assert_array_equal(
        read_dataset(tmp_path, "csv", pixel_order="columns")[0].masks, masks.transpose(0, 2, 1)
    )
    (tmp_path / "train.csv").write_text("\n".join(["id,annotation", "a,lung and heart"]))
    with pytest.raises(InputError, match="no known form"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("ImageId,EncodedPixels\x0cclass,", "expected a CSV file with ImageId"),
        # Longer than what is looked at to recognize a table, and cut within its last name.
        (f"EncodedPixels,{'x' * (65536 - len('EncodedPixels,,image'))},imagery", r"t\.csv: expected the columns"),
    ],
)
def test_a_header_without_the_columns_is_refused(tmp_path, header, message):
    (tmp_path / "t.csv").write_text(f"{header}\na,1 2,iso\n")
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path, reader="csv")
