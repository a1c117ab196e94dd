"""Regions of crowds (COCO's `iscrowd`) from the file to the batch."""

import hashlib
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.config import ClassifierConfig, ModelConfig, ResUNetConfig
from mrcnn.data import make_batch, read_dataset
from mrcnn.data.loading.cache import SampleCache
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augment import augment
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.dense_encoding import is_positive, make_dense_batch
from mrcnn.data.transforms.resizing import downscale_sample
from mrcnn.errors import InputError

REGION = np.zeros((12, 20), bool)
REGION[2:8, 12:18] = True
CONFIG = ModelConfig(class_names=("iso", "hypo"), image_size=64, channels=1, backbone="small")


def run_lengths(mask):
    found = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": found["size"], "counts": found["counts"].decode()}


def crowd(coco, flag=1, **more):
    """The same set with a crowd of class iso on the image a_1.png."""
    entry = {"id": 9, "image_id": 1, "category_id": 3, "segmentation": run_lengths(REGION), "iscrowd": flag}
    return coco | {"annotations": [*coco["annotations"], entry | more]}


@pytest.mark.parametrize("flag", [1, "1", True, "true", "True", 1.0, "1.0"])
def test_a_crowd_is_a_region_and_no_instance(coco, write_coco, flag):
    dataset = read_dataset(write_coco(crowd(coco, flag)))
    assert [record.class_ids.tolist() for record in dataset.records] == [[1], [2, 1]]
    assert [record.crowd_ids for record in dataset.records] == [(1,), ()]
    first, second = dataset
    np.testing.assert_array_equal(first.crowd_masks, REGION[None])
    assert first.crowd_ids.tolist() == [1] and second.crowd_masks.shape == (0, 12, 20)
    assert any("1 annotation marks a crowd" in told and "set iscrowd to 0" in told for told in dataset.warnings)


def test_the_mask_that_cvat_draws_with_a_brush_is_an_instance(coco, write_coco):
    dataset = read_dataset(write_coco(crowd(coco, attributes={"occluded": False})))
    assert dataset.records[0].class_ids.tolist() == [1, 1] and dataset[0].crowd_masks is None


def test_a_crowd_may_be_a_polygon_or_a_box(coco, write_coco):
    polygon = read_dataset(write_coco(crowd(coco, segmentation=[[12, 2, 18, 2, 18, 8, 12, 8]])))
    box = read_dataset(write_coco(crowd(coco, segmentation=[], bbox=[12, 2, 6, 6])))
    for dataset in (polygon, box):
        np.testing.assert_array_equal(dataset[0].crowd_masks[0], REGION)
    with pytest.raises(InputError, match="annotations id 9: segmentation is missing"):
        read_dataset(write_coco(crowd(coco, segmentation=[])))


def test_digests_know_crowds_and_are_the_same_without(coco, write_coco):
    folder = write_coco(coco)
    without = read_dataset(folder)
    (folder / "annotations.json").write_text(json.dumps(crowd(coco)))
    dataset = read_dataset(folder)
    assert dataset.digest != without.digest
    assert dataset.record_digests[1] == without.record_digests[1]
    assert dataset.subset([1]).digest == without.subset([1]).digest and dataset.subset([1])[0].crowd_masks is None
    record, (mask,) = without.records[0], without.masks(0)
    instances = [[1, run_lengths(mask)["counts"]]]
    facts = [hashlib.sha256(record.path.read_bytes()).hexdigest(), 12, 20, "a_1.png", None, None, instances]
    assert without.record_digests[0] == hashlib.sha256(json.dumps(facts).encode()).digest()  # by hand


def sample(size=(40, 60), crowds=1):
    rng = np.random.default_rng(0)
    masks = np.zeros((2, *size), bool)
    masks[0, 5:20, 30:50] = True
    masks[1, 25:35, 10:20] = True
    return Sample(
        rng.integers(0, 256, (*size, 1), np.uint8), masks, np.array([1, 2], np.int32), "p", "a.png",
        crowd_masks=masks[:crowds].copy(), crowd_ids=np.array([1] * crowds, np.int32),
    )  # fmt: skip


def test_a_crowd_moves_as_its_instance():
    strength = Augmentation(
        flip_horizontal=0.5, rotate_degrees=20, scale=0.2, translate=0.1, elastic=1, flip_swaps=(("iso", "hypo"),)
    )
    for seed in range(4):
        found = augment(sample(), strength, (seed, 0, 0), strength.mirrored_ids(("iso", "hypo")))
        np.testing.assert_array_equal(found.crowd_masks[0], found.masks[0])
        assert found.crowd_ids[0] == found.class_ids[0]
        alone = augment(sample(crowds=0), strength, (seed, 0, 0), strength.mirrored_ids(("iso", "hypo")))
        np.testing.assert_array_equal(alone.image, found.image)
        np.testing.assert_array_equal(alone.masks, found.masks)
        assert alone.crowd_masks.shape == (0, 40, 60)


def test_a_crowd_is_reduced_and_cached_with_its_image():
    small = downscale_sample(sample(), (30, 30))
    np.testing.assert_array_equal(small.crowd_masks, small.masks[:1])
    cache = SampleCache(1, 10**6)
    for _ in range(2):
        np.testing.assert_array_equal(cache.get(0, lambda _: sample()).crowd_masks, sample().crowd_masks)


@pytest.mark.parametrize("conventions", ["paper", "matterport"])
def test_the_batch_says_where_crowds_are(conventions):
    config = CONFIG.model_copy(update={"conventions": conventions, "channels": 1 if conventions == "paper" else 3})
    found = sample((32, 64))
    batch = make_batch([found, sample((32, 64), crowds=0)], config)
    expected = np.zeros((2, 64, 64), np.uint8)
    top = 0 if conventions == "paper" else 16
    expected[0, top + 5 : top + 20, 30:50] = 1
    np.testing.assert_array_equal(batch["ignore"], expected)
    plain = Sample(found.image, found.masks, found.class_ids, "p", "a.png")
    without = make_batch([plain], config)
    assert set(without) == set(batch) - {"ignore"}
    for name in without:
        np.testing.assert_array_equal(without[name][0], batch[name][0])


def test_batches_of_the_baselines():
    config = ResUNetConfig(class_names=("iso", "hypo"), image_size=64, channels=1)
    batch = make_dense_batch([sample((64, 64))], config)
    assert batch["ignore"][0, 5:20, 30:50].all() and batch["ignore"].sum() == 300
    only = Sample(np.zeros((8, 8, 1), np.uint8), np.zeros((0, 8, 8), bool), np.zeros(0, np.int32), "p", "a.png",
                  crowd_masks=np.ones((1, 8, 8), bool), crowd_ids=np.ones(1, np.int32))  # fmt: skip
    assert is_positive(only, ClassifierConfig(class_names=("no iso", "iso"), image_size=64, channels=1, by_label=False))
