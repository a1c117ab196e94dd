import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.data.sample import Sample
from mrcnn.phantoms.coco_file import trace, write_coco


def rasterise(polygon, height, width):
    runs = coco_mask.frPyObjects([polygon.ravel().tolist()], height, width)
    return coco_mask.decode(runs[0]).astype(bool)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_polygon_of_a_rectangle_follows_pixel_edges():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:26] = True
    polygon = trace(mask)
    # Rows 5 … 14 and columns 10 … 25 end at the edges 5, 15, 10 and 26; corners may be cut by less than a pixel.
    np.testing.assert_allclose([*polygon.min(0), *polygon.max(0)], [10, 5, 26, 15], atol=0.5)
    assert iou(rasterise(polygon, 20, 30), mask) > 0.95


@settings(max_examples=60)
@given(st.floats(9, 60), st.floats(9, 60), st.floats(4, 40), st.floats(0.6, 1.6), st.integers(0, 9), st.floats(0, 0.2))
def test_pycocotools_gives_the_mask_back(x, y, radius, ratio, order, strength):
    rows, columns = np.mgrid[:70, :80]
    angle = np.arctan2(rows - y, (columns - x) * ratio)
    mask = np.hypot(rows - y, (columns - x) * ratio) < radius * (1 + strength * np.cos(order * angle))
    assert iou(rasterise(trace(mask), 70, 80), mask) >= 0.95


def test_the_file_has_the_form_that_makesense_exports(tmp_path):
    mask = np.zeros((40, 50), bool)
    mask[10:30, 20:40] = True
    gray = np.arange(2000, dtype=np.uint8).reshape(40, 50, 1)
    with_one = Sample(gray, mask[None], np.array([2], np.int32), "p1", "a.png", (0.1, 0.1))
    without = Sample(gray, np.zeros((0, 40, 50), bool), np.zeros(0, np.int32), "p2", "b.png", (0.1, 0.1))
    write_coco([without, with_one], ("iso", "hypo"), tmp_path, "phantoms")
    content = json.loads((tmp_path / "annotations.json").read_text())
    assert content["info"] == {"description": "phantoms"}
    assert content["categories"] == [{"id": 1, "name": "iso"}, {"id": 2, "name": "hypo"}]
    extra = {"patient_id": "p2", "spacing_mm": [0.1, 0.1]}
    assert content["images"][0] == {"id": 1, "width": 50, "height": 40, "file_name": "b.png", **extra}
    (annotation,) = content["annotations"]
    assert set(annotation) == {"id", "iscrowd", "image_id", "category_id", "segmentation", "bbox", "area"}
    assert (annotation["id"], annotation["iscrowd"], annotation["image_id"], annotation["category_id"]) == (1, 0, 2, 2)
    assert len(annotation["segmentation"]) == 1 and len(annotation["segmentation"][0]) >= 8
    np.testing.assert_allclose(annotation["bbox"], [20, 10, 20, 20], atol=1)
    assert abs(annotation["area"] - 400) < 12
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "images" / "a.png")), gray[..., 0])
