"""Tiles of training: what a tile shows is what slicing shows, and where tiles lie."""

import json
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrcnn.config import ModelConfig
from mrcnn.data import Loader, make_batch, read_dataset
from mrcnn.data.dataset import Record
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.cropping import FORCED_SHARE, crop_sample, most_in_a_tile, random_corner
from mrcnn.instance_masks import InstanceMasks
from mrcnn.models.training.batches import repeat_epochs


def sample_of(masks, crowds=None):
    count, height, width = masks.shape
    image = np.arange(height * width * 3, dtype=np.float32).reshape(height, width, 3)
    ids = np.arange(1, count + 1, dtype=np.int32)
    crowd_ids = None if crowds is None else np.array([7] * len(crowds), np.int32)
    compact = InstanceMasks.from_array(masks)
    return Sample(image, compact.compressed(), ids, "p", "s", (0.5, 0.25), crowd_masks=crowds, crowd_ids=crowd_ids)


def record_of(height, width, boxes, class_ids=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ids = np.ones(len(boxes), np.int32) if class_ids is None else np.array(class_ids, np.int32)
    return Record("a.png", Path("a.png"), height, width, "p", ids, boxes, np.ones(len(boxes), np.int64))


@pytest.mark.parametrize("corner", [(0, 0), (13, 22), (40, 51)])
@pytest.mark.parametrize("with_crowds", [False, True])
def test_a_tile_is_what_slicing_shows(corner, with_crowds):
    rng = np.random.default_rng(3)
    masks = np.zeros((25, 72, 83), bool)
    for mask in masks:
        y, x, (h, w) = rng.integers(60), rng.integers(70), rng.integers(2, 30, 2)
        mask[y : y + h, x : x + w] = rng.random(mask[y : y + h, x : x + w].shape) < 0.7
    crowds = rng.random((2, 72, 83)) < 0.2 if with_crowds else None
    sample = sample_of(masks, crowds)
    tile = crop_sample(sample, sample.instances.boxes, corner, 32)
    window = np.s_[corner[0] : corner[0] + 32, corner[1] : corner[1] + 32]
    shown = np.array([mask[window] for mask in masks])
    share = shown.sum((1, 2)) / masks.sum((1, 2))
    np.testing.assert_array_equal(tile.image, sample.image[window])
    np.testing.assert_array_equal(tile.class_ids, sample.class_ids[share >= 0.25])
    np.testing.assert_array_equal(tile.masks, shown[share >= 0.25])
    rest = shown[(share < 0.25) & (share > 0)]
    expected = rest if crowds is None else np.concatenate([crowds[(slice(None), *window)], rest])
    np.testing.assert_array_equal(tile.crowd_masks, expected)
    assert len(tile.crowd_ids) == len(expected) and tile.spacing_mm == sample.spacing_mm


def test_a_quarter_of_an_instance_is_enough_and_what_is_less_is_ignored():
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 18:26, 5:13] = True  # 2 of its 8 rows are above row 20
    masks[1, 19:27, 13:20] = True  # 1 of 8
    masks[2] = True  # larger than the tile, of which it fills all
    tile = crop_sample(sample_of(masks), InstanceMasks.from_array(masks).boxes, (0, 0), 20)
    assert tile.class_ids.tolist() == [1, 3] and tile.instances.areas.tolist() == [2 * 8, 400]
    assert tile.crowd_ids.tolist() == [2] and tile.crowds.areas.tolist() == [7]
    config = ModelConfig(class_names=("a", "b", "c"), image_size=64, max_instances=4, mask_pool_size=2, tile=64)
    batch = make_batch([tile], config)
    # 20 pixels become 64, so the seven ignored pixels of row 19 cover about 7 × 3.2².
    assert batch["valid"].sum() == 2 and batch["ignore"].sum() == pytest.approx(7 * 3.2**2, rel=0.15)


def test_half_of_the_tiles_are_placed_on_an_instance():
    record = record_of(300, 400, [[390, 280, 398, 292]])
    rng = np.random.default_rng(0)
    corners = np.array([random_corner(record, 50, rng) for _ in range(4000)])
    assert corners.min() == 0 and (corners.max(0) == [250, 350]).all()
    top, left = corners.T
    whole = (top <= 280) & (top + 50 >= 292) & (left <= 390) & (left + 50 >= 398)
    by_chance = (9 / 251) * (3 / 351)  # rows 242 … 250, columns 348 … 350
    assert whole.mean() == pytest.approx(FORCED_SHARE + FORCED_SHARE * by_chance, abs=0.03)


def test_rare_classes_are_drawn_as_often_as_frequent_ones():
    boxes = [[10 * i, 0, 10 * i + 5, 5] for i in range(20)] + [[0, 900, 5, 905]]
    record = record_of(1000, 300, boxes, [1] * 20 + [2])
    rng = np.random.default_rng(0)
    tops = np.array([random_corner(record, 100, rng)[0] for _ in range(2000)])
    rare = ((tops <= 900) & (tops + 100 >= 905)).mean()
    assert rare == pytest.approx(FORCED_SHARE / 2 + FORCED_SHARE * 96 / 901, abs=0.03)


def test_tiles_of_images_without_instances_smaller_than_a_tile_or_filled_by_one():
    rng = np.random.default_rng(0)
    assert random_corner(record_of(60, 500, []), 64, rng)[0] == 0
    assert random_corner(record_of(60, 60, [[1, 1, 3, 3]]), 64, rng) == (0, 0)
    for _ in range(200):
        top, left = random_corner(record_of(400, 100, [[0, 100, 100, 300]]), 100, rng)
        assert 0 <= top <= 300 and left == 0


@pytest.mark.parametrize("seed", range(5))
def test_slots_hold_the_centers_of_any_tile(seed):
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 200, (30, 2))
    boxes = np.concatenate([centers - 2, centers + 2], 1)
    most = max(
        ((centers >= (x, y)) & (centers < (x + 50, y + 50))).all(1).sum() for x in range(151) for y in range(151)
    )
    assert most <= most_in_a_tile(record_of(200, 200, boxes), 50) <= 30
    assert most_in_a_tile(record_of(200, 200, boxes), 400) == 30 and most_in_a_tile(record_of(9, 9, []), 50) == 0


def write(folder, side, squares, empty=1):
    """Write gray images with squares of 12 px at known places, and some without; return the folder."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(1 + empty):
        pixels = rng.integers(0, 60, (side, side), np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "height": side, "width": side})
        for x, y in squares if number == 0 else ():
            pixels[y : y + 12, x : x + 12] = 200
            outline = [x, y, x + 12, y, x + 12, y + 12, x, y + 12]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0,
                                "segmentation": [outline], "bbox": [x, y, 12, 12], "area": 144})  # fmt: skip
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=1)
    categories = [{"id": 1, "name": "cell"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


SETTINGS = {"class_names": ("cell",), "channels": 1, "image_size": 64, "max_instances": 8, "mask_pool_size": 2}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_covers_the_area_and_depends_on_the_seed_alone(tmp_path, workers):
    dataset = read_dataset(write(tmp_path, 150, [(30, 40), (100, 120)]))
    config = ModelConfig(**SETTINGS, tile=70)
    made = {"augmentation": Augmentation(flip_horizontal=0.5), "shuffle": True, "seed": 3}
    loader = Loader(dataset, config, 4, **made, workers=workers)
    assert len(loader) == 5  # two images of 3 × 3 tiles, in batches of 4
    draws = np.concatenate(loader.order(0))
    assert sorted(draws[:18]) == list(range(18))
    assert loader.file_names(0, 0) == [f"{draw // 9}.png" for draw in draws[:4]]
    whole = list(islice(repeat_epochs(Loader(dataset, config, 4, **made)), 8))
    later = list(islice(repeat_epochs(loader, skipped=6), 2))
    for (one,), (other,) in zip(later, whole[6:], strict=True):
        assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    assert not np.array_equal(whole[0][0]["image"], whole[5][0]["image"])
    # A square of 12 px in a tile of 70 is 11 px in the network.
    (boxes,) = [np.concatenate([batch["boxes"][batch["valid"]] for (batch,) in whole])]
    sides = boxes[:, 2:] - boxes[:, :2]
    assert len(boxes) >= 4 and sides.max() <= 12 and np.median(sides) == pytest.approx(12 * 64 / 70, abs=1)


@pytest.mark.slow
def test_memory_of_an_image_of_8000_pixels_with_2000_instances(tmp_path):
    spots = [(40 + 170 * (number % 46), 40 + 170 * (number // 46)) for number in range(2000)]
    dataset = read_dataset(write(tmp_path, 8000, spots, empty=0))
    config = ModelConfig(**SETTINGS, tile=256)
    loader = Loader(dataset, config, 8, shuffle=True, augmentation=Augmentation(flip_horizontal=0.5))
    assert len(loader) == 32 * 32 / 8
    tracemalloc.start()
    batches = list(islice(loader.epoch(0), 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The image is 64 MB; its masks as an array would be 128 GB.
    assert peak < 300 << 20
    assert np.mean([(batch["valid"].sum(1) > 0).mean() for batch in batches]) > 0.5
