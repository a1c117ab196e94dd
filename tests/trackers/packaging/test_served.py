import json
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.config import ModelConfig
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.serving.inputs import as_images
from trackers.packaging.served import ServedMaskRCNN, as_dict

GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)
DEEP = np.arange(60, dtype=np.uint16).reshape(4, 5, 3) * 1000


class Network:
    """Finds one instance in each image: its upper left quarter, with a score of 0.5."""

    config = ModelConfig(class_names=("iso", "hypo"))

    def detect(self, images, batch_size):
        found = []
        for image in images:
            height, width = image.shape[:2]
            mask = np.zeros((1, height, width), bool)
            mask[:, : height // 2, : width // 2] = True
            box = np.array([[0, 0, width // 2, height // 2]], np.float32)
            found.append(Detections(box, np.array([0.5], np.float32), np.array([2], np.int32), mask))
        return found


@pytest.fixture
def served():
    model = ServedMaskRCNN()
    model.network = Network()
    model.settings = {"class_names": ["iso", "hypo"], "confidence": 0.4}
    return model


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        (GRAY, [(3, 4)]),
        (DEEP, [(4, 5, 3)]),
        ([GRAY, DEEP], [(3, 4), (4, 5, 3)]),
        ((DEEP.astype(np.float32),), [(4, 5, 3)]),
        (np.stack([DEEP, DEEP]), [(4, 5, 3), (4, 5, 3)]),
        ([], []),
    ],
)
def test_images_pass_as_they_are(given, shapes):
    images = as_images(given)
    assert [image.shape for image in images] == shapes
    for image, source in zip(images, [given] if given is GRAY or given is DEEP else given, strict=True):
        np.testing.assert_array_equal(image, source)
        assert image.dtype == source.dtype


def test_an_array_of_arrays_is_a_list():
    ragged = np.empty(2, object)
    ragged[:] = [GRAY, DEEP]
    assert [image.shape for image in as_images(ragged)] == [(3, 4), (4, 5, 3)]


@pytest.mark.parametrize("image", [GRAY, DEEP, DEEP / 7])
def test_nested_lists_are_the_image_that_they_came_from(image):
    (back,) = as_images(json.loads(json.dumps([image.tolist()])))
    np.testing.assert_array_equal(back, image)
    assert (back.dtype == np.uint8) == (image is GRAY)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([GRAY, np.zeros(3)], r"image 2: float64 array of shape \(3,\), expected numbers as \(H, W\) or \(H, W, C\)"),
        ([np.zeros((0, 4))], r"image 1: .* shape \(0, 4\)"),
        ([[[1, 2], [3]]], "image 1: rows of different lengths"),
        ([[["a"]]], "image 1: holds str, expected numbers"),
        ([[[1, None]]], "image 1: holds NoneType, expected numbers"),
        ([[[10**30]]], "image 1: object array"),
        ([[["a" * 10**7, *[0] * 10**6]]], "image 1: holds str"),
        (["/etc/hostname"], "image 1: text that is no base64"),
        (["http://example.org/image.png"], "image 1: text that is no base64"),
        ("image.png", "str: expected an image as an array"),
        ({"image": GRAY}, "dict: expected an image as an array"),
        (np.array(3), r"image 1: .* shape \(\)"),
    ],
)
def test_what_is_no_image_is_named(given, told):
    with pytest.raises(InputError, match=told):
        as_images(given)


def test_the_answer_is_plain_data_that_holds_the_masks(served):
    (answer,) = json.loads(json.dumps(served.predict(None, DEEP)))
    assert (answer["width"], answer["height"]) == (5, 4)
    assert (answer["findings"], answer["notice"]) == ({}, "Research use only")
    (instance,) = answer["instances"]
    assert (instance["class"], instance["score"], instance["bbox"]) == ("hypo", 0.5, [0, 0, 2, 2])
    expected = np.zeros((4, 5), np.uint8)
    expected[:2, :2] = 1
    assert instance["segmentation"]["size"] == [4, 5]
    np.testing.assert_array_equal(coco_mask.decode(instance["segmentation"]), expected)


def test_nothing_found_and_no_images_are_answers(served):
    assert as_dict(Detections.empty(3, 4), 3, 4, ("iso",))["instances"] == []
    assert served.predict(None, []) == []


def test_the_confidence_can_be_overridden(served):
    assert len(served.predict(None, GRAY)[0]["instances"]) == 1
    assert len(served.predict(None, GRAY, {"confidence": 0.5})[0]["instances"]) == 1
    assert len(served.predict(None, GRAY, {"confidence": 0.6})[0]["instances"]) == 0
    with pytest.raises(InputError, match=r"confidence=1\.5: expected a number from 0 to 1"):
        served.predict(None, GRAY, {"confidence": 1.5})


def test_networks_and_mirror_images_are_put_together_as_the_settings_say(monkeypatch, tmp_path):
    settings = {"class_names": ["iso", "hypo"], "confidence": 0.4}
    monkeypatch.setattr("mrcnn.models.load", lambda path, kinds: path)
    monkeypatch.setattr(
        "mrcnn.inference.ensemble.make_predictor", lambda *given: SimpleNamespace(given=given, config=Network.config)
    )

    def loaded(names, **more):
        (tmp_path / "settings.json").write_text(json.dumps(settings | more))
        model = ServedMaskRCNN()
        artifacts = {"settings": str(tmp_path / "settings.json"), **{name: f"{name}.keras" for name in names}}
        model.load_context(SimpleNamespace(artifacts=artifacts))
        networks, *views = model.network.given
        return networks, *views

    assert loaded(["model"]) == (["model.keras"], (), None)
    members = ["member-02", "member-10", "member-01"]
    sided = {"flips": ["horizontal"], "mirrored_ids": [0, 2, 1]}
    assert loaded(members, **sided) == (
        ["member-01.keras", "member-02.keras", "member-10.keras"],
        ["horizontal"],
        [0, 2, 1],
    )


def test_a_server_computes_all_batch_sizes_before_its_first_request(monkeypatch, tmp_path):
    computed = []

    class Recorded(Network):
        def detect(self, images, batch_size):
            computed.append(batch_size)
            return super().detect(images, batch_size)

    (tmp_path / "settings.json").write_text(json.dumps({"class_names": ["iso", "hypo"], "confidence": 0.4}))
    monkeypatch.setattr("mrcnn.models.load", lambda path, kinds: path)
    monkeypatch.setattr("mrcnn.inference.ensemble.make_predictor", lambda *given: Recorded())
    monkeypatch.setattr("trackers.packaging.served.install_limits", lambda answers, batch_size: batch_size == 4)
    model = ServedMaskRCNN()
    model.load_context(SimpleNamespace(artifacts={"settings": str(tmp_path / "settings.json"), "model": "model.keras"}))
    # For 512×512 pixels; first the two sizes after which TensorFlow's graph is that of any size.
    assert computed == [3, 5, 1, 2, 4]


def test_findings_are_asked_of_what_is_shown(served):
    served.findings = lambda image, found, names, spacing, reader: {"seen": [len(found), *names, spacing, reader]}
    assert served.predict(None, GRAY)[0]["findings"] == {"seen": [1, "iso", "hypo", None, None]}
    asked = {"confidence": 0.6, "spacing_mm": [0.1, 0.2]}
    assert served.predict(None, GRAY, asked)[0]["findings"] == {"seen": [0, "iso", "hypo", (0.1, 0.2), None]}


def test_masks_come_as_polygons_where_asked(served):
    (answer,) = served.predict(None, np.zeros((8, 12), np.uint8), {"masks": "polygons"})
    (polygons,) = [instance["segmentation"] for instance in answer["instances"]]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 8, 12)))
    expected = np.zeros((8, 12), np.uint8)
    expected[:4, :6] = 1
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"threshold": 0.5}, "threshold: no such parameter; expected confidence, spacing_mm, masks"),
        ({"masks": "png"}, "masks=png: expected rle or polygons"),
        ({"confidence": "0.5"}, "confidence=0.5: expected a number"),
        ({"confidence": True}, "confidence=True: expected a number"),
        ({"confidence": 10**4000}, "^confidence: expected a number"),
        ({"confidence": 10**5000}, "^confidence: expected a number"),
        ({"masks": ["rle"] * 10**6}, "^masks: expected rle or polygons"),
        ({"confidence": float("nan")}, "confidence=nan: expected a number"),
        ({"spacing_mm": [[1], [1, 2]]}, "spacing_mm.*: expected the row's and the column's size in mm"),
    ],
)
def test_what_is_no_parameter_is_named(served, params, told):
    with pytest.raises(InputError, match=told):
        served.predict(None, GRAY, params)


@pytest.mark.parametrize(
    "spacing",
    [[1], [0.1, -1], ["a", "b"], [1, float("nan")], 0.2, [1e308] * 2, [1, 1e-320], [10**400, 1], [True, 1]],
)
def test_a_spacing_that_is_none(served, spacing):
    with pytest.raises(InputError, match=r"spacing_mm.*: expected the row's and the column's size in mm"):
        served.predict(None, GRAY, {"spacing_mm": spacing})


def test_numbers_of_numpy_are_numbers(served):
    served.findings = lambda image, found, names, spacing, reader: {"spacing": spacing}
    for spacing in (np.array([0.5, 0.25]), [np.float32(0.5), np.float32(0.25)], (np.float64(0.5), 0.25)):
        params = {"confidence": np.float32(0.5), "spacing_mm": spacing}
        assert served.predict(None, GRAY, params)[0]["findings"] == {"spacing": (0.5, 0.25)}
    for spacing in ((0, 0), [0, 3], np.zeros(2)):
        assert served.predict(None, GRAY, {"spacing_mm": spacing})[0]["findings"] == {"spacing": None}
