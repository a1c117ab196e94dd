"""Test the labels, calibration and weight transfer of the classifier, and the cascade."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mrcnn.config import ClassifierConfig
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.dense_encoding import infer_binary_labels, make_label_batch
from mrcnn.detections import Detections
from mrcnn.models import Classifier, load
from mrcnn.models.baselines.classifier import Cascade
from mrcnn.models.pretrained.initial_weights import load_imagenet
from mrcnn.models.training.stages import set_trainable

CONFIG = ClassifierConfig(class_names=("no tumor", "tumor"), image_size=64)


def samples(count, size=64):
    """Return samples, every second one with a bright disc."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    found = []
    for number in range(count):
        masks = (np.hypot(x - 20 - number, y - 30) < 8)[None][: number % 2]
        image = rng.normal(100, 20, (size, size)) + 100 * masks.any(axis=0)
        image = image.clip(0, 255).astype(np.uint8)[..., None]
        found.append(Sample(image, masks, np.ones(len(masks), np.int32), "p", f"{number}.png", label=f"{number % 3}"))
    return found


def test_overfits_four_images(tmp_path):
    keras.utils.set_random_seed(0)
    chosen, model = samples(4), Classifier(CONFIG)
    model.compile(optimizer=keras.optimizers.AdamW(2e-3))
    batch = make_label_batch(chosen, CONFIG)
    np.testing.assert_array_equal(batch["positive"], [0, 1, 0, 1])
    for _ in range(15):
        model.train_on_batch(batch)
    images = [sample.image for sample in chosen]
    probabilities = model.probabilities(images, batch_size=3)
    np.testing.assert_allclose(probabilities, [0, 1, 0, 1], atol=0.1)
    changed = model.with_calibration(0.5, -1.0)
    changed.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras", (Classifier,))
    expected = 1 / (1 + np.exp(-(0.5 * model.logits(images) - 1)))
    np.testing.assert_allclose(loaded.probabilities(images), expected, atol=1e-4)
    assert len(model.probabilities([])) == 0


def test_the_label_of_the_image_decides_where_images_have_one():
    config = CONFIG.model_copy(update={"by_label": True, "class_names": ("0", "1")})
    np.testing.assert_array_equal(make_label_batch(samples(6), config)["positive"], [0, 1, 0, 0, 1, 0])


@pytest.mark.parametrize(
    ("labels", "instances", "classes", "expected"),
    [
        (["healthy", "ill", "ill"], [0, 1, 0], ["tumor"], (("healthy", "ill"), True)),
        (["healthy", "ill", None], [0, 1, 0], ["tumor"], (("no tumor", "tumor"), False)),
        (["2", "3", "4a"], [0, 1, 1], ["iso", "hypo"], (("no instance", "instance"), False)),
        (["left", "right"], [1, 1], ["lung"], (("no lung", "lung"), False)),
    ],
)
def test_labels_count_where_they_part_images_with_instances_from_others(labels, instances, classes, expected):
    records = [
        SimpleNamespace(label=label, class_ids=[1] * n, crowd_ids=None)
        for label, n in zip(labels, instances, strict=True)
    ]
    assert infer_binary_labels(records, classes) == expected


def test_transfer_of_imagenet_weights_and_frozen_stages(monkeypatch):
    """A mock replaces the download of Keras."""
    source = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 64, 3))
    config = CONFIG.model_copy(
        update={"backbone": "resnet50", "norm": "frozen_batch", "channels": 3, "normalisation": "imagenet"}
    )
    model = Classifier(config)
    monkeypatch.setattr("mrcnn.models.pretrained.initial_weights.CLASSIFIERS", {"resnet50": (lambda **_: source, ())})
    report = load_imagenet(model)
    assert [left.layer for left in report.skipped] == ["logit"]
    name = "conv4_block2_2_conv"
    for ours, theirs in zip(
        model.backbone.get_layer(name).get_weights(), source.get_layer(name).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    set_trainable(model, "heads")
    assert {weight.path.split("/")[-2] for weight in model.trainable_variables} == {"logit"}
    set_trainable(model, "5+")
    assert {weight.path.split("/")[-2][:5] for weight in model.trainable_variables} == {"conv5", "logit"}


class Says:
    """Return the first pixel of the image, in hundredths, as the probability."""

    def probabilities(self, images, *, batch_size):
        return np.array([image.flat[0] / 100 for image in images])


class Finds:
    """Detect each image as one instance with its first pixel, in hundredths, as the score; record the images."""

    config = SimpleNamespace(class_names=("tumor",))

    def __init__(self):
        self.seen = []

    def detect(self, images, *, batch_size):
        self.seen += [int(image.flat[0]) for image in images]
        return [
            Detections(
                np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32),
                np.array([image.flat[0] / 100], np.float32),
                np.ones(1, np.int32),
                np.ones((1, *image.shape[:2]), bool),
            )
            for image in images
        ]


def test_the_segmenter_sees_what_the_classifier_lets_through():
    images = [np.full((4 + number, 5, 1), value, np.uint8) for number, value in enumerate([10, 60, 50, 49, 90])]
    segmenter = Finds()
    cascade = Cascade(Says(), segmenter, 0.5)
    found = cascade.detect(images, batch_size=2)
    assert segmenter.seen == [60, 50, 90]
    assert [len(each) for each in found] == [0, 1, 1, 0, 1]
    assert [each.masks.shape[1:] for each in found] == [image.shape[:2] for image in images]
    assert found[4].scores[0] == pytest.approx(0.9)
    assert cascade.config.class_names == ("tumor",)
    assert [len(each) for each in Cascade(Says(), segmenter, 1.0).detect(images)] == [0] * 5
