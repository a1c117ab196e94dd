"""Test that losses and gradients of one step stay finite for extreme images in each precision."""

import keras
import numpy as np
import pytest

from mrcnn.data import Sample, make_batch
from mrcnn.data.transforms.augment import augment
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.errors import InputError
from mrcnn.models import MaskRCNN, load
from mrcnn.models.mask_rcnn.losses import LOSSES
from mrcnn.models.pretrained.initial_weights import load_weights
from mrcnn.models.training.state import nonfinite_arrays

SIDE = 64
# The product does not offer float16, whose step takes long to compile; the library takes it.
PRECISIONS = ("float32", "mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow))


def noise(seed=0):
    return np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE, 1)).astype(np.float32)


def sample(image=None, masks=()):
    image = noise() if image is None else image
    masks = np.array(masks, bool).reshape(-1, *image.shape[:2])
    return Sample(image, masks, np.arange(len(masks), dtype=np.int32) % 2 + 1, "p", "hard.png")


def mask(rows, columns, side=SIDE):
    area = np.zeros((side, side), bool)
    area[rows, columns] = True
    return area


def spike(value, dtype, base=0):
    image = np.full((SIDE, SIDE, 1), base, dtype)
    image[20, 30] = value
    return image


ALL = slice(None)
BLOB = mask(slice(10, 40), slice(20, 50))
RING = mask(ALL, ALL) & ~mask(slice(1, -1), slice(1, -1))
CORNERS = [mask(row, column) for row in (0, -1) for column in (0, -1)]
PIXELS = np.eye(SIDE * SIDE, dtype=bool)[:3000].reshape(-1, SIDE, SIDE)

HARD = {
    "no instance": lambda: sample(),
    "no instance left by a crop": lambda: augment(
        sample(masks=CORNERS), Augmentation(translate=0.5, scale=0.5), (0, 0, 1)
    ),
    "one pixel": lambda: sample(masks=[mask(17, 33)]),
    "one pixel in each corner": lambda: sample(masks=CORNERS),
    "a pixel wide": lambda: sample(masks=[mask(5, ALL), mask(ALL, 63), mask(0, slice(3, 60)), mask(slice(2, 9), 0)]),
    "on all borders": lambda: sample(masks=[RING]),
    "the whole image": lambda: sample(masks=[mask(ALL, ALL)]),
    "four times the same": lambda: sample(masks=[BLOB] * 4),
    "an empty mask": lambda: sample(masks=[mask(0, slice(0, 0)), BLOB]),
    "3,000 instances": lambda: sample(masks=PIXELS),
    "black": lambda: sample(np.zeros((SIDE, SIDE, 1), np.uint8), [BLOB]),
    "white": lambda: sample(np.full((SIDE, SIDE, 1), 65535, np.uint16), [BLOB]),
    "a bright pixel of 16 bits": lambda: sample(spike(65535, np.uint16), [BLOB]),
    "a bright pixel of 32 bits": lambda: sample(spike(1e30, np.float32, base=1), [BLOB]),
    "large numbers": lambda: sample(noise() * np.float32(1e30), [BLOB]),
    "small numbers": lambda: sample(noise() * np.float32(1e-30), [BLOB]),
    "a large offset": lambda: sample(noise() + np.float32(1e30), [BLOB]),
    "a line of pixels": lambda: sample(np.ones((1, 640, 1), np.float32) * 3, [np.ones((1, 640), bool)]),
}


@pytest.fixture(scope="module")
def stepped():
    """Return models by precision with plain gradient descent, and their initial weights."""
    return {}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", HARD)
def test_a_step_stays_finite(tiny, stepped, precision, case):
    if precision not in stepped:
        keras.utils.set_random_seed(0)
        model = MaskRCNN(tiny(), dtype=precision)
        model.compile(optimizer=keras.optimizers.SGD(1.0))
        stepped[precision] = model, model.get_weights()
    model, start = stepped[precision]
    model.set_weights(start)
    # Beside an ordinary image, which must not suffer from it.
    batch = make_batch([HARD[case](), sample(masks=[BLOB])], model.config)
    losses = model.train_on_batch(batch, return_dict=True)
    assert set(losses) == {"loss", *LOSSES}
    assert all(np.isfinite(float(value)) for value in losses.values()), losses
    assert nonfinite_arrays(model) == []
    # For float16 Keras scales the loss, and leaves out a step while that makes gradients overflow.
    if precision == "mixed_float16":
        return
    moved = [not np.array_equal(now, before) for now, before in zip(model.get_weights(), start, strict=True)]
    assert np.mean(moved) > 0.9


def test_thousands_of_instances_are_all_targets_with_enough_slots(tiny):
    config = tiny(max_instances=3000)
    batch = make_batch([sample(masks=PIXELS), sample()], config)
    assert batch["valid"].sum(axis=1).tolist() == [3000, 0]
    model = MaskRCNN(config)
    model.compile(optimizer=keras.optimizers.SGD(0.01, global_clipnorm=5.0), run_eagerly=True)
    losses = model.train_on_batch(batch, return_dict=True)
    assert all(np.isfinite(float(value)) for value in losses.values())
    assert float(losses["head_mask"]) > 0
    assert nonfinite_arrays(model) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "that are NaN or infinite"), (np.inf, "that are NaN or infinite"), (3e38, "from -3e.38 to 3e.38")],
)
def test_non_finite_images_are_rejected_by_name(tiny, value, message):
    image = noise()
    image[3, 3], image[4, 4] = value, -value
    with pytest.raises(InputError, match=rf"hard\.png: image has pixels .*{message}"):
        make_batch([sample(image)], tiny())


def hostile_weights():
    """Return weight changes of untrained, diverged and manipulated networks by name."""
    rng = np.random.default_rng(0)

    def everywhere(scale):
        return lambda weights: [
            np.where(rng.random(w.shape) < 0.05, rng.normal(size=w.shape) * scale, w).astype(w.dtype) for w in weights
        ]

    return {f"5 % times {scale:g}": everywhere(scale) for scale in (1e3, 1e10, 1e20, 1e30, np.inf, np.nan)}


HEADS = [
    (part, layer, value)
    for part, layer in [
        ("proposal_head", "rpn_class"), ("proposal_head", "rpn_box"), ("box_head", "head_class"),
        ("box_head", "head_box"), ("mask_head", "mask_logits"),
    ]
    for value in (1e38, np.nan)
]  # fmt: skip
IMAGES = [np.random.default_rng(1).integers(0, 255, (50, 60, 1)).astype(np.uint8)]


@pytest.fixture(scope="module")
def found(stepped):
    return {}


def detected(tiny, found):
    if "model" not in found:
        keras.utils.set_random_seed(0)
        found["model"] = MaskRCNN(tiny(score_threshold=0.01))
        found["start"] = found["model"].get_weights()
    model = found["model"]
    model.set_weights(found["start"])
    return model


def assert_sound(detections):
    assert np.isfinite(detections.boxes).all()
    assert (detections.boxes >= 0).all() and (detections.boxes <= [60, 50, 60, 50]).all()
    assert (detections.boxes[:, 2:] >= detections.boxes[:, :2]).all()
    assert ((detections.scores >= 0) & (detections.scores <= 1)).all()
    assert detections.masks.shape == (len(detections), 50, 60)


@pytest.mark.parametrize("case", hostile_weights())
def test_detections_of_extreme_weights_are_in_the_image(tiny, found, case):
    model = detected(tiny, found)
    model.set_weights(hostile_weights()[case](model.get_weights()))
    assert_sound(model.detect(IMAGES, batch_size=1)[0])


@pytest.mark.parametrize(("part", "layer", "value"), HEADS)
def test_detections_of_an_extreme_head_are_in_the_image(tiny, found, part, layer, value):
    model = detected(tiny, found)
    target = getattr(model, part).get_layer(layer)
    kernel, bias = target.get_weights()
    target.set_weights([np.where(np.arange(kernel.size).reshape(kernel.shape) % 2, value, -value), bias])
    assert_sound(model.detect(IMAGES, batch_size=1)[0])


def test_diverged_model_is_not_loaded(tiny, tmp_path):
    # It would find nothing in any image, as if there were nothing.
    model = MaskRCNN(tiny())
    kernel, bias = model.box_head.get_layer("head_class").get_weights()
    kernel[0, 0] = np.nan
    model.box_head.get_layer("head_class").set_weights([kernel, bias])
    assert [name.split("/")[-2:] for name in nonfinite_arrays(model)] == [["head_class", "kernel"]]
    model.save(tmp_path / "diverged.keras")
    with pytest.raises(InputError, match=r"diverged\.keras: weights of .*head_class/kernel are NaN or infinite"):
        load(tmp_path / "diverged.keras")
    with pytest.raises(InputError, match=r"weights of head_class are NaN or infinite"):
        load_weights(MaskRCNN(tiny()), tmp_path / "diverged.keras")
