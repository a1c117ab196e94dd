"""Tiles: what a perfect network finds in tiles is what it finds in the whole image."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.ndimage import label

from experiments.evaluation.evaluate import evaluate
from mrcnn.config import ModelConfig, ResUNetConfig
from mrcnn.data import read_dataset
from mrcnn.detections import Detections
from mrcnn.inference.ensemble import make_predictor
from mrcnn.inference.tiles import OVERLAP, detect_in_tiles, merge_tiles, tile_starts
from mrcnn.instance_masks import InstanceMasks
from mrcnn.models import MaskRCNN, ResUNet


def perfect(images):
    """Finds each connected region of each image; gray 2 is class 2, and a larger part of it scores higher."""
    found = []
    for image in images:
        regions, count = label(image[..., 0] > 0)
        masks = np.array([regions == number for number in range(1, count + 1)], bool).reshape(-1, *regions.shape)
        instances = InstanceMasks.from_array(masks)
        classes = [int(image[..., 0][mask].max()) for mask in masks]
        scores = np.array([1 - 1 / (1 + mask.sum()) for mask in masks], np.float32)
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(instances.boxes.astype(np.float32)[order], scores[order],
                                np.array(classes, np.int32)[order], masks[order]))  # fmt: skip
    return found


def scene(height, width, seed, radii=(2, 9)):
    """Discs of two classes that do not touch."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 1), np.uint8)
    y, x = np.mgrid[:height, :width]
    for _ in range(60):
        radius, top, left = rng.integers(*radii), rng.integers(height), rng.integers(width)
        near = (y - top) ** 2 + (x - left) ** 2
        if not image[near <= (radius + 2) ** 2].any():
            image[near <= radius**2] = 1 + rng.integers(2)
    return image


def content(detections):
    return sorted((int(class_id), mask.tobytes(), *box.tolist()) for class_id, mask, box in
                  zip(detections.class_ids, detections.masks, detections.boxes, strict=True))  # fmt: skip


@pytest.mark.parametrize("tile", [40, 64, 100, 300])
@pytest.mark.parametrize("seed", range(3))
def test_discs_are_found_once_and_whole(tile, seed):
    image = scene(130, 210, seed)
    found, other = detect_in_tiles(perfect, [image, image[:50]], tile)
    assert content(other) == content(perfect([image[:50]])[0])
    assert content(found) == content(perfect([image])[0]) and len(found) > 10
    assert (np.diff(found.scores) <= 0).all()


def test_what_is_larger_than_a_tile_is_joined():
    image = np.zeros((100, 300, 1), np.uint8)
    image[20:30, 5:290] = image[20:90, 280:290] = 1  # through all tiles, around a corner
    image[50:60, 100:250] = 2
    assert content(*detect_in_tiles(perfect, [image], 64)) == content(perfect([image])[0])


def test_neighbors_of_one_class_and_one_place_of_two_classes_stay_apart():
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 10:20, 40:50], masks[1, 10:20, 50:60] = True, True
    one = Detections(InstanceMasks.from_array(masks).boxes.astype(np.float32), np.array([0.9, 0.8], np.float32),
                     np.array([1, 1], np.int32), masks)  # fmt: skip
    moved = np.zeros_like(masks)
    moved[:, :, :34] = masks[:, :, 30:]
    other = Detections(InstanceMasks.from_array(moved).boxes.astype(np.float32), np.array([0.7, 0.6], np.float32),
                       np.array([1, 2], np.int32), moved)  # fmt: skip
    found = merge_tiles([one, other], [(0, 0), (0, 30)], 64, 94)
    assert found.class_ids.tolist() == [1, 1, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.6])


def test_no_more_than_a_batch_of_tiles_is_cut_at_once_and_an_image_without_instances_is_legal():
    shapes = []

    def find(images):
        shapes.append([image.shape for image in images])
        return perfect(images)

    assert len(*detect_in_tiles(find, [np.zeros((100, 90, 3), np.uint8)], 40, batch_size=2)) == 0
    assert all(len(batch) <= 2 and set(batch) == {(40, 40, 3)} for batch in shapes)


@pytest.mark.parametrize("length", [41, 64, 90, 100, 8000])
def test_tiles_cover_everything_and_overlap(length):
    starts = tile_starts(length, 40)
    assert starts[0] == 0 and starts[-1] == length - 40
    assert max(np.diff(starts)) <= 40 * (1 - OVERLAP) + 1


@pytest.mark.parametrize("flips", [(), ("horizontal", "vertical")])
def test_a_model_of_tiles_is_evaluated_on_whole_images(tmp_path, monkeypatch, flips):
    """A perfect network of few detections a tile has an AP of 1 on images of more of them."""
    images, annotations = [], []
    for number, (height, width) in enumerate([(400, 300), (90, 500), (60, 50)]):
        image = scene(height, width, number)
        Image.fromarray(image[..., 0]).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        (found,) = perfect([image])
        for class_id, mask in zip(found.class_ids.tolist(), found.masks, strict=True):
            runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            outline = {"size": [height, width], "counts": runs["counts"].decode()}
            annotations.append({"id": len(annotations), "image_id": number, "category_id": class_id, "iscrowd": 0,
                                "bbox": coco_mask.toBbox(runs).tolist(), "area": int(mask.sum()),
                                "segmentation": outline})  # fmt: skip
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    config = ModelConfig(class_names=("a", "b"), image_size=64, channels=1, backbone="small", fpn_channels=16,
                         head_width=16, mask_channels=16, mask_convolutions=1, max_detections=14, tile=64)  # fmt: skip
    shown = []

    def find(self, images, batch_size):
        shown.extend(image.shape[:2] for image in images)
        return [Detections(each.boxes[:14], each.scores[:14], each.class_ids[:14], each.instances.select(range(14)))
                if len(each) > 14 else each for each in perfect(images)]  # fmt: skip

    monkeypatch.setattr(MaskRCNN, "_detect_whole", find)
    evaluator = evaluate(make_predictor([MaskRCNN(config)], flips), read_dataset(tmp_path), batch_size=3)
    scores = evaluator.summary(0.0)
    assert len(annotations) > 30 and set(shown) == {(64, 64), (60, 50)}
    assert scores["mask_ap"] == scores["box_ap"] == scores["f1"] == 1.0
    assert scores["instances"] == len(annotations)


def test_a_baseline_detects_in_tiles_too(monkeypatch):
    image = scene(130, 210, 0)
    monkeypatch.setattr(ResUNet, "_detect_whole", lambda self, images, batch_size: perfect(images))
    model = ResUNet(ResUNetConfig(class_names=("a", "b"), image_size=64, widths=(16, 16), tile=64))
    assert content(*model.detect([image])) == content(*perfect([image]))
