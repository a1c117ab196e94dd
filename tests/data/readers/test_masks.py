"""The reader of mask folders on every way to lay them out."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SIZE = (12, 20)


def blank(dtype=np.uint8):
    return np.zeros(SIZE, dtype)


def squares(*values, dtype=np.uint8):
    """Squares of 3×3 pixels from the left, a pixel apart, with these values."""
    mask = blank(dtype)
    for index, value in enumerate(values):
        mask[4:7, 1 + 4 * index : 4 + 4 * index] = value
    return mask


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


def picture(path):
    save(path, np.random.default_rng(len(str(path))).integers(0, 256, SIZE, np.uint8))


def boxes(dataset):
    return [record.boxes.tolist() for record in dataset.records]


LEFT, MIDDLE = [1, 4, 4, 7], [5, 4, 8, 7]


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
@pytest.mark.parametrize("name", ["a", "a_mask"])
def test_a_mask_beside_each_image(tmp_path, suffix, name):
    picture(tmp_path / "images" / "a.jpg")
    picture(tmp_path / "images" / "b.jpg")
    save(tmp_path / "masks" / f"{name}.{suffix}", squares(255, 255))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("object",)
    assert [record.file_name for record in dataset.records] == ["images/a.jpg", "images/b.jpg"]
    assert boxes(dataset) == [[LEFT, MIDDLE], []]
    assert any("1 of 2 images have no mask" in warning for warning in dataset.warnings)
    np.testing.assert_array_equal(dataset[0].masks.any(0), squares(255, 255) > 0)


def test_what_an_instance_is(tmp_path):
    picture(tmp_path / "images" / "a.png")
    mask = squares(1, 1, 2)
    save(tmp_path / "masks" / "a.png", mask)

    def read(**options):
        record = read_dataset(tmp_path, **options).records[0]
        return sorted(zip(record.class_ids.tolist(), record.areas.tolist(), strict=True))

    assert read() == [(1, 9), (1, 9), (1, 9)]
    assert read(instances="values") == [(1, 9), (1, 18)]
    assert read(instances="classes") == [(1, 27)]
    assert read(class_names=("x", "y")) == [(1, 9), (1, 9), (2, 9)]
    assert read(instances="classes", class_names=("x", "y")) == [(1, 18), (2, 9)]
    with pytest.raises(InputError, match="values are no classes"):
        read(instances="values", class_names=("x", "y"))
    save(tmp_path / "masks" / "a.png", squares(1, 7))
    with pytest.raises(InputError, match=r"masks/a\.png: holds the value 7; class_names has 2: x, y"):
        read(class_names=("x", "y"))


def test_many_instances_in_sixteen_bits(tmp_path):
    picture(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png", squares(300, 301, 40000, dtype=np.uint16))
    assert len(read_dataset(tmp_path, instances="values").records[0].class_ids) == 3


def test_a_palette_counts_by_its_numbers(tmp_path):
    picture(tmp_path / "images" / "a.png")
    image = Image.fromarray(squares(1, 2), mode="P")
    image.putpalette([0, 0, 0, 9, 9, 9, 9, 9, 9])  # both classes look the same
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks" / "a.png")
    assert read_dataset(tmp_path, class_names=("x", "y")).records[0].class_ids.tolist() == [1, 2]


def test_pieces_that_meet_at_a_corner_are_one(tmp_path):
    picture(tmp_path / "images" / "a.png")
    mask = blank()
    mask[2:4, 2:4] = mask[4:6, 4:6] = 1
    save(tmp_path / "masks" / "a.png", mask)
    assert boxes(read_dataset(tmp_path)) == [[[2, 2, 6, 6]]]


@pytest.mark.parametrize("names", [("masks/a_0.png", "masks/a_1.png"), ("masks/a/first.png", "masks/a/second.png"),
                                   ("masks/a_mask_0.png", "masks/a_mask_1.png")])  # fmt: skip
def test_a_file_for_each_instance(tmp_path, names):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "b.png")
    apart = blank()
    apart[0, 0] = apart[9, 15] = 255  # one instance, in two pieces
    save(tmp_path / names[0], apart)
    save(tmp_path / names[1], squares(0, 255))
    assert boxes(read_dataset(tmp_path)) == [[[0, 0, 16, 10], MIDDLE], []]


@pytest.mark.parametrize("suffix", ["_seg", "_outline"])
def test_images_and_masks_side_by_side(tmp_path, suffix):
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.tif")
    save(tmp_path / f"a{suffix}.tif", squares(1))
    save(tmp_path / f"b{suffix}_0.tif", squares(1))
    save(tmp_path / f"b{suffix}_1.tif", squares(0, 1))
    assert boxes(read_dataset(tmp_path, "masks", mask_suffix=suffix)) == [[LEFT], [LEFT, MIDDLE]]
    if suffix == "_seg":
        assert boxes(read_dataset(tmp_path)) == [[LEFT], [LEFT, MIDDLE]]
    else:
        with pytest.raises(InputError, match="no known form"):
            read_dataset(tmp_path)


def test_a_folder_for_each_image(tmp_path):
    for name in ("1f", "2f"):
        picture(tmp_path / name / "images" / f"{name}.png")
        save(tmp_path / name / "masks" / "77ab.png", squares(255))
        save(tmp_path / name / "masks" / "88cd.png", squares(0, 255))
    dataset = read_dataset(tmp_path)
    assert boxes(dataset) == [[LEFT, MIDDLE]] * 2
    assert dataset.records[0].file_name == "1f/images/1f.png"


def test_folders_of_a_split_are_pooled(tmp_path):
    for split in ("test", "train"):
        for name in ("p1_a", "p2_a"):
            picture(tmp_path / split / "images" / f"{name}.png")
            save(tmp_path / split / "masks" / f"{name}.png", squares(255))
    dataset = read_dataset(tmp_path, patient_pattern=r"/(p\d)_")
    assert len(dataset) == 4 and {record.patient_id for record in dataset.records} == {"p1", "p2"}


def test_all_problems_are_told_at_once(tmp_path):
    for name in "abcdef":
        picture(tmp_path / "images" / f"{name}.png")
    picture(tmp_path / "images" / "a.jpg")
    save(tmp_path / "masks" / "b.png", np.zeros((5, 5), np.uint8))
    save(tmp_path / "masks" / "c.npy", np.full(SIZE, 0.5))
    save(tmp_path / "masks" / "d.npy", np.full(SIZE, -1))
    save(tmp_path / "masks" / "e.png", np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8))
    (tmp_path / "masks" / "f.png").write_text("none")
    save(tmp_path / "masks" / "g.png", squares(1))
    save(tmp_path / "masks" / "h.jpg", squares(20))
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path)
    text = str(caught.value)
    assert "10 problems" in text
    for part in (
        "another image is called a",
        "b.png: has 5×5 pixels; its image has 20×12",
        "c.npy: expected whole numbers",
        "d.npy: holds -1",
        "e.png: has the shape",
        "f.png: expected a readable",
        "g.png: no image of that name in images",
        "images/a.png: has no mask, yet masks/g.png has no image",
        "h.jpg: no image of that name",
    ):
        assert part in text


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="expected folders images and masks"):
        read_dataset(tmp_path, "masks")


def test_real_chest_films(shared_data):
    dataset = read_dataset(shared_data / "lung", class_names=("lung",))
    assert len(dataset) == 322
    assert all(len(record.class_ids) for record in dataset.records[:20])
