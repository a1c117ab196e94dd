import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.config.overrides import flattened
from experiments.config.schema import TaskConfig
from experiments.training.planner import (
    channels_of,
    make_plan,
    network_boxes,
    resolve_runtime_options,
    shared_settings,
    with_measured_time,
    with_shared_settings,
)
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


@pytest.fixture(autouse=True)
def packages(monkeypatch):
    """No weights are installed, unless the test adds backbones to the returned set."""
    installed: set[str] = set()
    monkeypatch.setattr(
        "experiments.training.planner.packaged_weights", lambda name: Path(name) if name in installed else None
    )
    return installed


@pytest.fixture(autouse=True)
def fast_host(monkeypatch):
    """A budget bounds the plan by the speed of the host, which other processes slow down."""
    monkeypatch.setattr("experiments.training.budget.reference_seconds", lambda precision: 0.001)


GRAY = np.full((50, 100), 7, np.uint8)
COLOR = np.zeros((50, 100, 3), np.uint8) + np.array([1, 2, 3], np.uint8)


def test_boxes_are_scaled_as_the_image_is(folder):
    data = folder([GRAY], [[(10, 20, 25)]])
    assert network_boxes(data, (100, 300)).tolist() == [[20, 40, 70, 90]]


def test_gray_images_need_one_channel_also_when_stored_as_color(folder):
    assert channels_of(folder([GRAY, np.dstack([GRAY] * 3)], [[], []])) == 1
    assert channels_of(folder([GRAY, COLOR], [[], []])) == 3


def test_slots_hold_the_fullest_image(folder):
    data = folder([GRAY, GRAY], [[(0, 0, 9), (20, 0, 9), (40, 0, 9)], []])
    assert make_plan(task(), data).model.max_instances == 3
    assert make_plan(task(), folder([GRAY], [[]])).model.max_instances == 1


def test_instances_beyond_the_slots_bring_a_word(folder):
    data = folder([GRAY, GRAY], [[(0, 0, 9), (20, 0, 9), (40, 0, 9)], [(0, 0, 9), (20, 0, 9)]])
    cut = make_plan(task(model={"max_instances": 2}), data).describe(1)
    assert "more than model.max_instances=2 instances: 1; of each the 2 largest are taught" in cut
    assert "largest are taught" not in make_plan(task(), data).describe(1)


def test_widths_follow_the_backbone_and_detections_the_instances(folder):
    data = folder([np.full((300, 400), 7, np.uint8)], [[(4 * i, 0, 3) for i in range(90)]])
    whole = {"data": {"tile": None}}
    small, wide = (make_plan(task(model={"backbone": name}, **whole), data).model for name in ("small", "resnet50"))
    widths = ("fpn_channels", "head_width", "mask_channels", "mask_convolutions", "proposals", "max_detections")
    assert [getattr(small, name) for name in widths] == [64, 256, 64, 2, 360, 180]
    assert [getattr(wide, name) for name in widths] == [256, 1024, 256, 4, 1000, 180]
    given = {"backbone": "small", "fpn_channels": 32, "max_instances": 10}
    model = make_plan(task(model=given, **whole), data).model
    assert (model.fpn_channels, model.proposals, model.max_detections) == (32, 100, 100)


def test_instances_below_the_grid_bring_a_word_about_the_input(folder):
    data = folder([np.full((300, 400), 7, np.uint8)], [[(4 * i, 0, 3) for i in range(90)]])
    whole = {"data": {"tile": None}}
    small = make_plan(task(model={"backbone": "small", "image_size": 64}, **whole), data).describe(1)
    assert "image_size" in small
    data = folder([np.full((300, 400), 7, np.uint8)], [[(30, 30, 100), (200, 150, 100)]])
    larger = make_plan(task(model={"backbone": "small", "image_size": 256}), data)
    assert "image_size" not in larger.describe(1)


def test_anchors_fit_the_boxes_and_cover_them(folder):
    data = folder([GRAY] * 6, [[(5, 5, side)] for side in (10, 12, 15, 20, 30, 40)])
    plan = make_plan(task(model={"image_size": 128, "backbone": "small"}), data)
    assert plan.measures()["anchors/recall"] > 0.8
    assert plan.model.anchor_ratios == pytest.approx((1, 1, 1), abs=0.2)


def test_given_values_stay(folder):
    data = folder([GRAY], [[(0, 0, 20)]])
    model = {"channels": 3, "max_instances": 9, "anchor_sizes": [[8], [16], [32], [64], [128]], "anchor_ratios": [1]}
    plan = make_plan(task(model=model), data)
    assert (plan.model.channels, plan.model.max_instances, plan.model.anchor_ratios) == (3, 9, (1,))
    assert plan.measures() == {}


def test_pretrained_weights_bring_their_norm_channels_and_scaling(folder):
    model = make_plan(task(train={"weights": "imagenet"}), folder([GRAY], [[]])).model
    assert (model.channels, model.norm, model.normalisation) == (3, "frozen_batch", "imagenet")
    model = make_plan(task(), folder([GRAY], [[]])).model
    assert (model.channels, model.norm, model.normalisation) == (1, "group", "image")


def test_installed_weights_choose_the_backbone(folder, packages):
    data = folder([GRAY], [[(0, 0, 20)]])
    without = make_plan(task(), data)
    assert (without.model.backbone, without.weights, without.config.train.learning_rate) == ("small", "none", 1e-3)
    assert lines_of(without)["weights"] == "none: those of efficientnet_lite0 are not installed"
    packages.add("efficientnet_lite0")
    plan = make_plan(task(), data)
    model = plan.model
    assert (model.backbone, model.norm, model.normalisation, model.channels) == (
        "efficientnet_lite0", "frozen_batch", "image", 1,
    )  # fmt: skip
    assert (plan.weights, plan.config.train.weights, model.fpn_channels) == ("imagenet", "imagenet", 64)
    for given in ({"model": {"norm": "group"}}, {"model": {"backbone": "small"}}, {"train": {"weights": "none"}}):
        chosen = make_plan(task(**given), data)
        assert (chosen.model.backbone, chosen.weights, chosen.model.norm) == ("small", "none", "group")
    assert make_plan(task(train={"weights": "imagenet"}, model={"backbone": "resnet50"}), data).model.channels == 3


def test_the_filled_in_task_leaves_nothing_open_and_plans_the_same(folder):
    data = folder([GRAY] * 2, [[(0, 0, 20)], [(0, 0, 30)]])
    plan = make_plan(task(), data)
    filled = plan.config
    # The validation split decides these after the training.
    decided = filled.model_dump(exclude={"data": True, "evaluate": {"confidence", "min_slices"}})
    assert "auto" not in flattened(decided).values()
    again = TaskConfig.model_validate(filled.model_dump(mode="json"))
    assert make_plan(again, data).model == plan.model


def lines_of(plan) -> dict[str, str]:
    return {decision.name: f"{decision.value}: {decision.reason}" for decision in plan.decisions}


def test_decisions_have_reasons_and_given_values_are_not_among_them(folder):
    data = folder([np.full((360, 560), 7, np.uint8)] * 4, [[(40, 40, 100)]] * 4)
    plan = make_plan(task(modality="xray"), data)
    found = lines_of(plan)
    assert "100% of the images are 360×560" in found["canvas"] and "multiples of 32" in found["canvas"]
    assert found["mask size"].startswith("28×28: masks of 28×28 allow a Dice of 1.000")
    assert "invert 0.5" in found["augmentation"] and found["augmentation"].endswith("modality xray")
    # 4 images in batches of 4: 5,000 images in 20 epochs of 1250 / 20 steps.
    assert found["schedule"].startswith("20 epochs of 63 steps: 1260 passes over 4 images")
    assert (plan.config.train.batch_size, plan.config.train.patience, plan.config.augment.scale) == (4, 8, 0.5)
    assert plan.lines()[-1].startswith("  Expected: about ")
    given = {"model": {"image_size": 96, "mask_pool_size": 7, "backbone": "small"}, "augment": {"invert": 0},
             "train": {"epochs": 2, "batch_size": 3, "weights": "none"}}  # fmt: skip
    plan = make_plan(task(modality="xray", **given), data)
    assert not {"canvas", "mask size", "backbone", "weights", "batch size", "schedule"} & set(lines_of(plan))
    assert "invert" not in lines_of(plan)["augmentation"] and plan.config.augment.invert == 0
    train = plan.config.train
    assert (train.epochs, train.steps_per_epoch, train.batch_size, train.patience, plan.draws) == (2, None, 3, 0, None)


def test_predictions_flip_as_the_training_does(folder):
    data = folder([GRAY], [[(4, 4, 8)]])
    plan = make_plan(task(), data)
    assert plan.config.evaluate.tta is True
    assert lines_of(plan)["test time"].startswith("flips, horizontal: ") and "2 times" in lines_of(plan)["test time"]
    sided = make_plan(task(augment={"flip_horizontal": 0, "flip_vertical": 0}), data)
    given = make_plan(task(evaluate={"tta": False}), data)
    assert (sided.config.evaluate.tta, given.config.evaluate.tta) == (False, False)
    assert "test time" not in lines_of(sided) | lines_of(given)


def test_a_tight_budget_costs_resolution_and_steps(folder, monkeypatch):
    monkeypatch.setattr("experiments.training.budget.reference_seconds", lambda precision: 0.002)
    monkeypatch.setattr("experiments.training.planner.device_memory", lambda: ("cpu", 16 << 30))
    data = folder([np.full((512, 512), 7, np.uint8)] * 4, [[(100, 100, 30), (300, 300, 200)]] * 4)
    free, tight = (make_plan(task(train={"budget": budget, "precision": "float32"}), data) for budget in ("9h", "5m"))
    # 30 px should be 16 px in the network: 512 · 16 / 30 = 273. In 5 minutes, of which 180 s are left for steps, 5,000
    # images may take 36 ms: 39,300 pixels, where 256² take 2 ms · (27 + 2 + 1).
    assert (free.model.image_size, tight.model.image_size) == (288, 192)
    assert "bounded by the budget" in lines_of(tight)["canvas"] and "bounded" not in lines_of(free)["canvas"]
    assert free.seconds > 300 > tight.seconds
    # At 192² an image takes 2 ms · (27 · 0.5625 + 3) = 36.4 ms: 4,948 images in 180 s.
    assert (tight.config.train.epochs, tight.config.train.steps_per_epoch) == (20, 62)
    slower, line = with_measured_time(tight, 2 * 4 * 0.0364, 0.1, 0)
    assert slower.train.steps_per_epoch == 31 and line.endswith("20 epochs of 31 steps")
    # 100 images of the validation split take 10 s each time and their losses 1.1 s, so 13 are validated.
    slower, line = with_measured_time(tight, 4 * 0.0364, 0.1, 100)
    assert slower.evaluate.validation_images == 13 and line.endswith("each validated on 13 of 100 images")
    assert with_measured_time(free, 1e-6, 1e-6, 100)[0].train.steps_per_epoch == 63


def test_crowded_images_get_more_pixels_within_the_budget(folder):
    image = np.full((600, 600), 7, np.uint8)
    few, many = (folder([image] * 4, [[(9 * i, 0, 6) for i in range(count)]] * 4) for count in (1, 12))
    whole = task(train={"budget": "3m"}, data={"tile": None})
    sizes = [make_plan(whole, data).model.input_shape for data in (few, many)]
    assert np.prod(sizes[1]) > 1.5 * np.prod(sizes[0])


def test_crowded_images_that_are_much_larger_than_the_canvas_are_cut_into_tiles(folder, monkeypatch):
    monkeypatch.setattr("experiments.training.planner.device_memory", lambda: ("cpu", 16 << 30))
    image = np.full((1000, 1000), 7, np.uint8)
    grid = [(20 + 90 * (i % 11), 20 + 90 * (i // 11), 22) for i in range(121)]
    budget = {"train": {"budget": "5m", "precision": "float32"}}
    data = folder([image] * 3, [grid] * 3)
    plan = make_plan(task(**budget), data, validation_images=3)
    # 22 px are due 44 in the network, so twice the size; 44 px fit into a quarter of 256.
    assert (plan.model.tile, plan.config.data.tile, plan.model.input_shape) == (128, 128, (256, 256))
    assert "twice" not in lines_of(plan)["tile"] and "for which 2 times is due" in lines_of(plan)["tile"]
    # A tile of 128 px holds the centers of four squares at most, of nine in cells of a quarter.
    assert 4 <= plan.model.max_instances <= 9 and plan.model.max_detections == 100
    assert plan.crowded == 0 and f"passes over {3 * 8 * 8} tiles" in lines_of(plan)["schedule"]
    assert network_boxes(data, (256, 256), 128)[0].tolist() == [40, 40, 84, 84]
    anchors = np.concatenate(plan.model.anchor_sizes)
    assert np.abs(anchors - 44).min() < 2
    # The plan of one training is that of the others of a comparison.
    again = with_shared_settings(task(), shared_settings(plan.config))
    assert again.data.tile == 128

    whole = make_plan(task(**budget, data={"tile": None}), data)
    assert whole.model.tile is None and "tile" not in lines_of(whole) and whole.model.max_instances == 121
    given = make_plan(task(**budget, data={"tile": 500}), data)
    assert given.model.tile == 500 and given.model.max_instances > 25
    fixed = make_plan(task(**budget, model={"image_size": 320}), data)
    assert (fixed.model.tile, fixed.model.image_size) == (160, 320)


def test_tiles_are_advice_where_few_instances_need_their_surroundings_and_none_where_they_are_large(folder):
    image = np.full((1000, 1000), 7, np.uint8)
    config = task(train={"budget": "5m", "precision": "float32"})
    few = make_plan(config, folder([image] * 3, [[(100, 100, 20), (500, 300, 20)]] * 3))
    assert few.model.tile is None and few.config.data.tile is None
    assert "none" in lines_of(few)["tile"] and "--tile 12" in lines_of(few)["tile"]
    large = make_plan(config, folder([image] * 3, [[(100, 100, 400), (500, 500, 300)]] * 3))
    assert large.model.tile is None and "tile" not in lines_of(large)
    assert make_plan(config, folder([image], [[]])).model.tile is None


def test_classes_with_sides_are_not_mirrored_and_crowds_are_turned(folder):
    data = folder([GRAY], [[(0, 0, 20)]])
    assert make_plan(task(), data).config.augment.flip_horizontal == 0.5
    data.class_names = ("left_lung",)
    plan = make_plan(task(), data)
    assert plan.config.augment.flip_horizontal == 0 and "left_lung names a side" in lines_of(plan)["augmentation"]
    crowd = folder([GRAY], [[(9 * i, 0, 5) for i in range(10)]])
    chosen = make_plan(task(), crowd).config.augment
    assert (chosen.flip_vertical, chosen.rotate_degrees) == (0.5, 180)
    assert make_plan(task(augment={"flip_vertical": 0, "rotate_degrees": 5}), crowd).config.augment.flip_vertical == 0


@pytest.mark.parametrize(("able", "automatic"), [(True, "mixed_bfloat16"), (False, "float32")])
def test_the_device_decides_the_precision_where_nobody_does(folder, monkeypatch, able, automatic):
    monkeypatch.setattr("experiments.training.planner.computes_in_bfloat16", lambda: able)
    data = folder([GRAY], [[]])
    assert resolve_runtime_options(task(), data).train.precision == automatic
    for asked in ("float32", "mixed_bfloat16"):
        assert resolve_runtime_options(task(train={"precision": asked}), data).train.precision == asked


def test_class_weights_for_other_classes_are_an_input_error(folder):
    with pytest.raises(InputError, match=r"model\.class_weights has 3 values: expected 2"):
        make_plan(task(model={"class_weights": [1, 1, 1]}), folder([GRAY], [[]]))


def test_coco_weights_bring_their_architecture(folder):
    data = folder([GRAY], [[(0, 0, 20)]])
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
    plan = make_plan(config, folder([COLOR], [[(0, 0, 20)]]), lambda _: str(tmp_path / "m.keras"))
    model = plan.model
    assert plan.config.train.learning_rate == 1e-3, "a learning rate of another backbone than the file's"
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
        ({"train": {"weights": "mine"}}, "weights=mine: expected auto, none, imagenet, coco, last, a run's id"),
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


def test_channels_are_those_of_all_slices(tmp_path):
    for number in range(4):
        for name, image in ((f"p_{number}.tif", COLOR), (f"p_{number}_mask.tif", np.eye(50, 100, dtype=np.uint8))):
            (tmp_path / "p").mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / "p" / name)
    data = read_dataset(tmp_path, "lgg")
    plan = make_plan(task(data={"context_slices": 1}, model={"backbone": "small"}), data)
    assert (plan.model.channels, plan.model.context_slices) == (9, 1)
    assert "9: 3 slices of 3, as the training images have them" in "\n".join(plan.lines())
    assert make_plan(plan.config, data).model == plan.model
    for model, weights in (({"channels": 3, "backbone": "small"}, "none"), ({"backbone": "resnet50"}, "imagenet")):
        with pytest.raises(InputError, match=r"context_slices=1: the model or its weights have 3 channels; expected 9"):
            make_plan(task(data={"context_slices": 1}, model=model, train={"weights": weights}), data)
