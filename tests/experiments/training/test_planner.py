import json

import numpy as np
import pytest
from PIL import Image

from experiments.config.schema import TaskConfig
from experiments.training.planner import channels_of, make_plan, network_boxes, resolve_runtime_options
from mrcnn.data import read_dataset
from mrcnn.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """Writes a data set of images with squares at the given (x, y, side); returns it as read."""

    def write(images: list[np.ndarray], squares: list[list[tuple[int, int, int]]]):
        described, annotations = [], []
        for number, (image, shapes) in enumerate(zip(images, squares, strict=True)):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
            height, width = image.shape[:2]
            described.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
            for x, y, side in shapes:
                polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
                annotations.append({
                    "id": len(annotations), "image_id": number, "category_id": 1, "segmentation": [polygon],
                    "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0,
                })  # fmt: skip
        content = {"images": described, "annotations": annotations, "categories": [{"id": 1, "name": "nodule"}]}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        return read_dataset(tmp_path)

    return write


def task(**sections) -> TaskConfig:
    return TaskConfig.model_validate({"task": "x", "modality": "ct", **sections})


GREY = np.full((50, 100), 7, np.uint8)
COLOUR = np.zeros((50, 100, 3), np.uint8) + np.array([1, 2, 3], np.uint8)


def test_boxes_are_scaled_as_the_image_is(folder):
    data = folder([GREY], [[(10, 20, 25)]])
    assert network_boxes(data, (100, 300)).tolist() == [[20, 40, 70, 90]]


def test_grey_images_need_one_channel_also_when_stored_as_colour(folder):
    assert channels_of(folder([GREY, np.dstack([GREY] * 3)], [[], []])) == 1
    assert channels_of(folder([GREY, COLOUR], [[], []])) == 3


def test_slots_hold_the_fullest_image(folder):
    data = folder([GREY, GREY], [[(0, 0, 9), (20, 0, 9), (40, 0, 9)], []])
    assert make_plan(task(), data).model.max_instances == 3
    assert make_plan(task(), folder([GREY], [[]])).model.max_instances == 1


def test_instances_beyond_the_slots_bring_a_word(folder):
    data = folder([GREY, GREY], [[(0, 0, 9), (20, 0, 9), (40, 0, 9)], [(0, 0, 9), (20, 0, 9)]])
    cut = make_plan(task(model={"max_instances": 2}), data).describe(1, "float32")
    assert "more than model.max_instances=2 instances: 1; of each the 2 largest are taught" in cut
    assert "largest are taught" not in make_plan(task(), data).describe(1, "float32")


def test_widths_follow_the_backbone_and_detections_the_instances(folder):
    data = folder([np.full((300, 400), 7, np.uint8)], [[(4 * i, 0, 3) for i in range(90)]])
    small, wide = (make_plan(task(model={"backbone": name}), data).model for name in ("small", "resnet50"))
    widths = ("fpn_channels", "head_width", "mask_channels", "mask_convolutions", "proposals", "max_detections")
    assert [getattr(small, name) for name in widths] == [64, 256, 64, 2, 360, 180]
    assert [getattr(wide, name) for name in widths] == [256, 1024, 256, 4, 1000, 180]
    given = {"backbone": "small", "fpn_channels": 32, "max_instances": 10}
    model = make_plan(task(model=given), data).model
    assert (model.fpn_channels, model.proposals, model.max_detections) == (32, 100, 100)


def test_instances_below_the_grid_bring_a_word_about_the_input(folder):
    data = folder([np.full((300, 400), 7, np.uint8)], [[(4 * i, 0, 3) for i in range(90)]])
    small = make_plan(task(model={"backbone": "small", "image_size": 64}), data).describe(1, "float32")
    assert "image_size" in small
    data = folder([np.full((300, 400), 7, np.uint8)], [[(30, 30, 100), (200, 150, 100)]])
    larger = make_plan(task(model={"backbone": "small", "image_size": 256}), data)
    assert "image_size" not in larger.describe(1, "float32")


def test_anchors_fit_the_boxes_and_cover_them(folder):
    data = folder([GREY] * 6, [[(5, 5, side)] for side in (10, 12, 15, 20, 30, 40)])
    plan = make_plan(task(model={"image_size": 128, "backbone": "small"}), data)
    assert plan.measures()["anchors/recall"] > 0.8
    assert plan.model.anchor_ratios == pytest.approx((1, 1, 1), abs=0.2)


def test_given_values_stay(folder):
    data = folder([GREY], [[(0, 0, 20)]])
    model = {"channels": 3, "max_instances": 9, "anchor_sizes": [[8], [16], [32], [64], [128]], "anchor_ratios": [1]}
    plan = make_plan(task(model=model), data)
    assert (plan.model.channels, plan.model.max_instances, plan.model.anchor_ratios) == (3, 9, (1,))
    assert plan.measures() == {}


def test_pretrained_weights_bring_their_norm_channels_and_scaling(folder):
    model = make_plan(task(train={"weights": "imagenet"}), folder([GREY], [[]])).model
    assert (model.channels, model.norm, model.normalisation) == (3, "frozen_batch", "imagenet")
    model = make_plan(task(), folder([GREY], [[]])).model
    assert (model.channels, model.norm, model.normalisation) == (1, "group", "image")


def test_the_filled_in_task_leaves_nothing_open_and_plans_the_same(folder):
    data = folder([GREY] * 2, [[(0, 0, 20)], [(0, 0, 30)]])
    plan = make_plan(task(), data)
    filled = plan.fill_in(task())
    assert "auto" not in filled.model.model_dump().values()
    again = TaskConfig.model_validate(filled.model_dump(mode="json"))
    assert make_plan(again, data).model == plan.model


@pytest.mark.parametrize(("able", "automatic"), [(True, "mixed_bfloat16"), (False, "float32")])
def test_the_device_decides_the_precision_where_nobody_does(folder, monkeypatch, able, automatic):
    monkeypatch.setattr("experiments.training.planner.computes_in_bfloat16", lambda: able)
    data = folder([GREY], [[]])
    assert resolve_runtime_options(task(), data).train.precision == automatic
    for asked in ("float32", "mixed_bfloat16"):
        assert resolve_runtime_options(task(train={"precision": asked}), data).train.precision == asked


def test_class_weights_for_other_classes_are_an_input_error(folder):
    with pytest.raises(InputError, match=r"model\.class_weights has 3 values: expected 2"):
        make_plan(task(model={"class_weights": [1, 1, 1]}), folder([GREY], [[]]))


def test_coco_weights_bring_their_architecture(folder):
    data = folder([GREY], [[(0, 0, 20)]])
    model = make_plan(task(train={"weights": "coco"}, model={"anchor_sizes": "auto"}), data).model
    assert (model.conventions, model.backbone, model.norm, model.channels) == (
        "matterport",
        "resnet101",
        "frozen_batch",
        3,
    )
    assert model.normalisation == "imagenet" and model.fpn_channels == 256 and model.nms_iou == 0.3
    assert model.anchor_ratios == (2, 1, 0.5) and model.anchor_sizes[0] == (32,)
    chosen = {"backbone": "resnet50", "anchor_sizes": [[9], [18], [36], [72], [144]], "norm": "batch", "nms_iou": 0.4}
    model = make_plan(task(train={"weights": "coco"}, model=chosen), data).model
    assert (model.backbone, model.anchor_sizes[0], model.norm, model.nms_iou) == ("resnet50", (9,), "batch", 0.4)


def test_a_saved_model_brings_its_own(folder, tmp_path):
    from mrcnn.config import ModelConfig
    from mrcnn.models import MaskRCNN

    source = ModelConfig(class_names=("x",), image_size=64, channels=1, backbone="small", fpn_channels=16,
                         head_width=16, mask_channels=16, mask_convolutions=1, anchor_ratios=(1.0,))  # fmt: skip
    MaskRCNN(source).save(tmp_path / "m.keras")
    config = task(train={"weights": "last"}, model={"head_width": 32})
    model = make_plan(config, folder([COLOUR], [[(0, 0, 20)]]), str(tmp_path / "m.keras")).model
    assert (model.backbone, model.channels, model.fpn_channels) == ("small", 1, 16)
    assert model.head_width == 32 and model.class_names == ("nodule",) and model.anchor_ratios == (1,)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"weights": "coco"}, "model": {"backbone": "small"}}, "train.weights=coco.*backbone=small"),
        ({"train": {"weights": "coco"}, "model": {"norm": "group"}}, "norm=group: expected frozen_batch or batch"),
        ({"train": {"weights": "coco"}, "model": {"conventions": "paper"}}, "conventions=paper: expected matterport"),
        ({"train": {"weights": "imagenet"}, "model": {"conventions": "matterport"}}, "expected paper with"),
        ({"train": {"weights": "coco"}, "model": {"normalisation": "image"}}, "normalisation=image: expected imagenet"),
        ({"train": {"weights": "mine"}}, "weights=mine: expected none, imagenet, coco, last, a run's id"),
    ],
)
def test_weights_that_do_not_fit_the_model_are_told_at_once(sections, message):
    with pytest.raises(ValueError, match=message):
        task(**sections)


@pytest.mark.parametrize(
    "weights", ["last", "runs:/x", "models:/m@champion", "0123456789abcdef" * 2, "a/b.keras", "w.h5", "c.safetensors"]
)
def test_what_weights_may_say(weights):
    assert task(train={"weights": weights}).train.weights == weights
