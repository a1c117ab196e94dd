"""Masks that came through JPEG, resizing or other tools: right, refused or named, and sound ones in silence."""

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.data.io.label_images import has_void_border, is_blended, ringed_values, threshold_blended
from mrcnn.data.readers import find_reader
from mrcnn.errors import InputError

SHAPE = 96, 128
ROWS, COLUMNS = np.mgrid[:96, :128]
FAULTS = Path(__file__).parents[4] / "shared" / "faults"
AREAS = [682, 846, 937, 960, 615, 820, 633, 752, 932, 525, 1445, 517]


def ellipse(y, x, half_height, half_width):
    return ((ROWS - y) / half_height) ** 2 + ((COLUMNS - x) / half_width) ** 2 < 1


ONE = ellipse(50, 60, 15, 20)
SEVERAL = np.any([ellipse(y, x, 6, 7) for y in range(10, 90, 17) for x in range(10, 120, 19)], axis=0)
BOX = (abs(ROWS - 48) < 16) & (abs(COLUMNS - 64) < 24)
CLASSES = np.select([ellipse(30, 30, 12, 14), ellipse(30, 90, 12, 14), ellipse(70, 60, 12, 20)], [1, 2, 3], 0)


def lossy(values, quality):
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def resized(values, factor, filter=Image.Resampling.BILINEAR):
    size = round(SHAPE[1] * factor), round(SHAPE[0] * factor)
    return np.rint(np.array(Image.fromarray(values.astype(np.float32)).resize(size, filter))).clip(0, 255).astype(int)


def folder(path, *masks, suffix=".png"):
    """Images 0, 1, … with these masks."""
    for name in ("images", "masks"):
        (path / name).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        mask = np.asarray(mask)
        noise = np.random.default_rng(number).integers(0, 256, mask.shape, np.uint8)
        Image.fromarray(noise).save(path / "images" / f"{number}.png")
        file = path / "masks" / f"{number}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(file, mask)
        else:
            Image.fromarray(mask if mask.dtype == bool else mask.astype(np.uint8)).save(file)
    return path


def areas(dataset):
    return [record.areas.tolist() for record in dataset.records]


def told(dataset):
    """The warnings but that on patients."""
    return [warning for warning in dataset.warnings if "patient" not in warning]


@pytest.mark.parametrize("quality", [10, 50, 75, 90, 95, 98, 99, 100])
@pytest.mark.parametrize("top", [255, 128])
@pytest.mark.parametrize("mask", [ONE, SEVERAL, BOX], ids=["one", "several", "box"])
def test_jpeg_is_seen_and_undone(mask, top, quality):
    values = lossy(mask * top, quality)
    if len(np.unique(values)) < 3:
        return  # a box on JPEG's blocks
    assert is_blended(values)
    assert abs(int(threshold_blended(values).sum()) / int(mask.sum()) - 1) < (0.002 if quality > 10 else 0.01)


@pytest.mark.parametrize("factor", [0.5, 0.78, 1.5, 2])
@pytest.mark.parametrize("filter", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_resizing_is_seen_and_undone(factor, filter):
    values = resized(ONE * 255, factor, filter)
    assert is_blended(values)
    assert threshold_blended(values).sum() == pytest.approx(ONE.sum() * factor**2, rel=0.03)


def test_maps_of_labels_are_not_taken_for_blended():
    assert not is_blended(CLASSES) and not is_blended(ONE) and not is_blended(CLASSES * 85)
    seeds = np.random.default_rng(0).uniform(0, 96, (60, 2)) * [1, 4 / 3]
    cells = np.argmin([(ROWS - y) ** 2 + (COLUMNS - x) ** 2 for y, x in seeds], axis=0) + 1  # no background at all
    assert not is_blended(cells)
    tiny = np.zeros(SHAPE, int)
    for number in range(300):
        y, x = divmod(number, 20)
        tiny[4 + 6 * y : 8 + 6 * y, 4 + 6 * x : 8 + 6 * x] = 1 + number * 37 % 300
    assert not is_blended(tiny) and not has_void_border(tiny)


def test_areas_of_several_values_are_no_edges():
    values = lossy(np.select([CLASSES == 1, CLASSES == 2, CLASSES == 3], [85, 170, 255], 0), 75)
    assert is_blended(values) and threshold_blended(values) is None


def test_blended_masks_of_one_class(tmp_path):
    dataset = read_dataset(folder(tmp_path, lossy(ONE * 255, 75), SEVERAL * 255))
    assert areas(dataset)[0] == [ONE.sum()] and sum(areas(dataset)[1]) == SEVERAL.sum()
    (warning,) = told(dataset)
    assert warning.startswith("masks have blended edges from JPEG or resizing (values 1, 2, 3") and "0.png" in warning
    for options in ({"instances": "values"}, {"class_names": ("a", "b")}):
        with pytest.raises(InputError, match=r"masks/0\.png: holds \d+ values \(1, 2, .* blended at edges.*nearest"):
            read_dataset(tmp_path, **options)


def test_masks_of_classes_that_were_resized(tmp_path):
    names = ("a", "b", "c")
    for number, factor in enumerate((1.5, 2, 0.78)):
        path = tmp_path / str(number)
        folder(path, resized(CLASSES, factor), resized(CLASSES[::-1], factor))
        with pytest.raises(InputError, match=r"masks/0\.png: [ab] \([12]\) only lines the outline.*nearest"):
            read_dataset(path, class_names=names)
    assert told(read_dataset(folder(tmp_path / "sound", CLASSES, CLASSES[::-1]), class_names=names)) == []


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_a_wall_around_an_organ_is_no_error(tmp_path, width):
    outer = ellipse(50, 60, 15 + width, 20 + width)
    dataset = read_dataset(folder(tmp_path, outer.astype(int) + ONE, ONE * 2), class_names=("wall", "organ"))
    assert areas(dataset) == [[outer.sum() - ONE.sum(), ONE.sum()], [ONE.sum()]]
    assert told(dataset) == [] or "wall (1) only as a line" in told(dataset)[0]
    assert ringed_values(outer.astype(int) + ellipse(50, 60, 10, 14), 2) == []


@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize("options", [{"instances": "values"}, {}, {"class_names": ("a", "b", "c")},
                                     {"class_names": ("a", "b", "c"), "instances": "classes"}])  # fmt: skip
def test_void_borders_are_left_out(tmp_path, options, width):
    ring = np.zeros(SHAPE, bool)
    for dy in range(-width, width + 1):
        for dx in range(-width, width + 1):
            ring |= np.roll(CLASSES > 0, (dy, dx), (0, 1))
    masks = np.where(ring & (CLASSES == 0), 255, CLASSES), np.where(ONE, 255, 0)
    dataset = read_dataset(folder(tmp_path, *masks), **options)
    assert areas(dataset) == [[(value == CLASSES).sum() for value in (1, 2, 3)], []]
    warning, *rest = told(dataset)
    assert "2 masks hold 255 as PASCAL VOC does" in warning and "masks/0.png, masks/1.png" in warning
    assert len(rest) == (options == {}) and all("several values (1, 2, 3)" in each for each in rest)


def test_255_is_no_class_where_no_border_is(tmp_path):
    folder(tmp_path, CLASSES, ONE * 255)
    with pytest.raises(InputError, match=r"1 problem\n.*masks/1\.png: holds the value 255; class_names has 3"):
        read_dataset(tmp_path, class_names=("a", "b", "c"))


def test_255_is_an_object_where_no_border_is(tmp_path):
    many = np.zeros(SHAPE, int)
    for number in range(255):
        y, x = divmod(number, 20)
        many[4 + 7 * y : 7 + 7 * y, 4 + 6 * x : 7 + 6 * x] = number + 1
    assert areas(read_dataset(folder(tmp_path, many, ONE * 255), instances="values")) == [[9] * 255, [ONE.sum()]]


def test_background_and_object_exchanged(tmp_path):
    dataset = read_dataset(folder(tmp_path, ~ONE, ~SEVERAL, ~BOX))
    (warning,) = told(dataset)
    assert "3 masks hold an instance" in warning and "object and background are exchanged" in warning
    assert "masks/0.png" in warning
    dataset = read_dataset(folder(tmp_path, ~ONE, SEVERAL, BOX))
    (warning,) = told(dataset)
    assert "masks hold an instance" in warning and "exchanged" not in warning


def test_outlines_are_named(tmp_path):
    """HC18 draws the border of the head alone."""
    line = ellipse(50, 60, 30, 40) & ~ellipse(50, 60, 28, 38)
    (warning,) = told(read_dataset(folder(tmp_path / "line", line, line, ONE)))
    assert warning.startswith("2 masks hold an outline around nothing") and "masks/0.png" in warning
    thick, vessels = ellipse(50, 60, 30, 40) & ~ellipse(50, 60, 15, 20), line.copy()
    vessels[:, 59:61] = vessels[49:51] = True
    assert not any("outline" in each for each in told(read_dataset(folder(tmp_path / "other", thick, vessels))))


def test_noise_is_named(tmp_path):
    noise = np.random.default_rng(0).random(SHAPE) > 0.98
    (warning,) = told(read_dataset(folder(tmp_path, ONE | noise, ONE)))
    assert "pieces of at most 4 pixels" in warning and "masks/0.png" in warning and "masks/1.png" not in warning


@pytest.mark.parametrize("masks", [(ONE, SEVERAL), (ONE * 1, BOX * 1), (ONE * 255, np.zeros(SHAPE))])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_sound_masks_in_silence(tmp_path, masks, suffix):
    dataset = read_dataset(folder(tmp_path, *masks, suffix=suffix))
    assert [sum(each) for each in areas(dataset)] == [np.count_nonzero(mask) for mask in masks]
    assert told(dataset) == []


def test_every_file_beside_masks_is_read_or_named(tmp_path):
    folder(tmp_path, ONE, BOX, SEVERAL)
    for number, suffix in enumerate((".webp", ".nii.gz", ".jp2")):
        (tmp_path / "masks" / f"{number}.png").rename(tmp_path / "masks" / f"{number}{suffix}")
    for name in ("labels.txt", ".DS_Store", "Thumbs.db"):
        (tmp_path / "masks" / name).write_text("")
    (tmp_path / "images" / "DICOMDIR").write_text("")
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path)
    for name in ("0.webp: no mask of this kind is read", "1.nii.gz: no mask of this kind", "2.jp2: no mask of"):
        assert f"masks/{name}" in str(caught.value)
    assert "3 problems" in str(caught.value)
    for path in (tmp_path / "masks").glob("[012].*"):
        path.unlink()
    warning, bare = told(read_dataset(tmp_path))
    told_of = "files beside images and masks are none that can be read and are passed over"
    assert warning == f"2 {told_of}: images/DICOMDIR, masks/labels.txt"
    assert "3 of 3 images have no mask" in bare


def test_jpeg_files_are_masks_of_one_class(tmp_path):
    """As published by Kvasir-SEG and TN3K; codes of classes do not survive JPEG."""
    for name, mask in (("a", ONE * 255), ("b", SEVERAL * 255), ("c", np.zeros(SHAPE))):
        (tmp_path / "masks").mkdir(exist_ok=True), (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(mask.astype(np.uint8)).convert("RGB").save(tmp_path / "masks" / f"{name}.jpg", quality=90)
    dataset = read_dataset(tmp_path)
    assert [sum(each) for each in areas(dataset)] == pytest.approx([ONE.sum(), SEVERAL.sum(), 0], rel=0.01)
    assert told(dataset)[0].startswith("3 masks are JPEG files")
    for options in ({"class_names": ("x", "y")}, {"instances": "values"}):
        with pytest.raises(InputError, match=r"3 problems\n.*a\.jpg: JPEG changes the values"):
            read_dataset(tmp_path, **options)
    Image.fromarray(CLASSES.astype(np.uint8) * 85).save(tmp_path / "masks" / "b.jpg")
    Image.fromarray(CLASSES.astype(np.uint8) * 20).save(tmp_path / "masks" / "c.jpg")
    with pytest.raises(InputError, match=r"(?s)2 problems.*b\.jpg: JPEG changes.*c\.jpg: JPEG changes.* one value"):
        read_dataset(tmp_path)


def of_one_size(root):
    for image in (root / "images").iterdir():
        Image.fromarray(np.zeros(SHAPE, np.uint8)).save(image)
    return root


def test_masks_of_another_size(tmp_path):
    """The COVID-19 Radiography Database has images of 299 pixels and masks of 256."""
    half = Image.fromarray(ONE.astype(np.uint8)).resize((SHAPE[1] // 2, SHAPE[0] // 2), Image.Resampling.NEAREST)
    dataset = read_dataset(of_one_size(folder(tmp_path / "half", np.asarray(half), ONE[:-1], ONE)))
    assert [sum(each) for each in areas(dataset)] == pytest.approx([ONE.sum()] * 3, rel=0.05)
    assert told(dataset)[0].startswith("2 masks have the shape of their images but another size")
    cropped, turned = ONE[3:-3, 4:-4], ONE.T
    with pytest.raises(InputError, match="2 problems"):
        read_dataset(of_one_size(folder(tmp_path / "other", cropped, turned, ONE)))


def test_a_constant_alpha_channel_says_nothing(tmp_path):
    """Some masks of BUSI are RGBA, opaque or transparent everywhere."""
    for number, alpha in enumerate((0, 255)):
        mask = np.stack([ONE * 255] * 3 + [np.full(SHAPE, alpha)], -1)
        assert areas(read_dataset(folder(tmp_path / str(number), mask))) == [[ONE.sum()]]


def test_masks_in_a_color(tmp_path):
    """One color on black is one class; several colors may be classes, so that nothing tells which."""
    red, green = (np.stack([ONE * 255 * (k == n) for k in range(3)], -1) for n in range(2))
    assert areas(read_dataset(folder(tmp_path / "red", red, red))) == [[ONE.sum()]] * 2
    for masks in ((red, green), (np.where(BOX[..., None], green, red), red)):
        with pytest.raises(InputError, match="color"):
            read_dataset(folder(tmp_path / str(len(list(tmp_path.iterdir()))), *masks))


def test_a_white_background_is_no_void_border(tmp_path):
    """Masks of REFUGE are 0 in the cup, 128 in the disc and 255 elsewhere."""
    disc = np.where(ellipse(50, 60, 10, 12), 0, np.where(ellipse(50, 60, 20, 25), 128, 255))
    warnings = told(read_dataset(folder(tmp_path, disc, disc)))
    assert any("object and background are exchanged" in each for each in warnings)
    assert not any("PASCAL" in each for each in warnings)


def test_masks_of_no_image_take_the_images_that_they_may_be_of(tmp_path):
    folder(tmp_path, ONE, BOX, SEVERAL)
    masks = tmp_path / "masks"
    (masks / "1.png").rename(masks / "1_outline.png")
    with pytest.raises(InputError, match=r"1 problem\n.*1_outline\.png: no image of.*1\.png.*mask_suffix"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, on_error="skip")
    assert [record.file_name for record in dataset.records] == ["images/0.png", "images/2.png"]
    assert told(dataset) == []
    (masks / "1_outline.png").rename(masks / "other.png")
    assert len(read_dataset(tmp_path, on_error="skip")) == 2  # any image without a mask could be that of other.png


def test_names_in_both_forms_of_unicode(tmp_path):
    folder(tmp_path, ONE)
    (tmp_path / "images" / "0.png").rename(tmp_path / "images" / unicodedata.normalize("NFC", "Müller é.png"))
    Image.fromarray(ONE).save(tmp_path / "images" / "b.png")
    (tmp_path / "masks" / "0.png").rename(tmp_path / "masks" / unicodedata.normalize("NFD", "Müller é_mask.png"))
    assert areas(read_dataset(tmp_path)) == [[ONE.sum()], []]


def test_numbered_tiff_masks_are_no_slices_of_patients(tmp_path):
    for number in range(2):
        tifffile.imwrite(tmp_path / f"cell_0{number}.tif", np.full(SHAPE, 9 * number, np.uint8))
        tifffile.imwrite(tmp_path / f"cell_0{number}_mask.tif", ONE.astype(np.uint8) * 255)
    assert find_reader(tmp_path) == "masks"
    assert areas(read_dataset(tmp_path)) == [[ONE.sum()]] * 2
    patient = tmp_path / "set" / "TCGA_1"
    patient.mkdir(parents=True)
    tifffile.imwrite(patient / "TCGA_1_12.tif", np.zeros(SHAPE, np.uint8))
    tifffile.imwrite(patient / "TCGA_1_12_mask.tif", ONE.astype(np.uint8) * 255)
    assert find_reader(tmp_path / "set") == find_reader(patient) == "lgg"


@pytest.mark.parametrize("name", ["mask_jpeg_resaved_as_png", "mask_in_alpha_channel", "mask_bool_tifffile",
                                  "n3_some_bmp"])  # fmt: skip
def test_sets_that_were_misread(name):
    if not (FAULTS / name).is_dir():
        pytest.skip("the sets are not here")
    found = areas(read_dataset(FAULTS / name))
    assert found == [[area] for area in AREAS[: len(found)]]


def test_what_jpeg_leaves_beside_an_object_is_no_border():
    beside = ellipse(50, 60, 16, 21) & ~ONE
    assert not has_void_border(np.select([ONE, beside], [255, 1], 0))
    assert has_void_border(np.select([ellipse(50, 60, 12, 17), ONE], [1, 255], 0))


def test_a_class_that_lines_another_in_a_few_slices_is_anatomy(tmp_path):
    thin = ellipse(50, 60, 16, 21).astype(int) + ONE
    thick = ellipse(50, 60, 25, 30).astype(int) + ONE
    assert told(read_dataset(folder(tmp_path, thin, *[thick] * 5), class_names=("wall", "organ"))) == []
