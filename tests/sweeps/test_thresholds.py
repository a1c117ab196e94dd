"""The search on kept detections, against the project's evaluator fed with naively suppressed detections."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.config import ModelConfig
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator
from mrcnn.metrics.case import make_case
from sweeps.candidate_cache import box_ious, cache_candidates, suppressed, survivors
from sweeps.thresholds import ThresholdSearch

SIDE, CLASSES = 32, 2


def masks_of(boxes):
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, np.asarray(boxes, int), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def pair(generator):
    """An image with 0 to 3 instances and jittered, doubled and false detections of them."""

    def some(count):
        start = generator.integers(0, 20, (count, 2))
        return np.concatenate([start, start + generator.integers(4, 12, (count, 2))], axis=1)

    truth = some(generator.integers(0, 4))
    classes = generator.integers(1, CLASSES + 1, len(truth))
    found = np.concatenate([truth + generator.integers(-2, 3, truth.shape) for _ in range(3)] + [some(2)]).clip(0, SIDE)
    ids = np.concatenate([classes, classes, classes, generator.integers(1, CLASSES + 1, 2)])
    scores = generator.permutation(len(found)) / len(found) * 0.9 + 0.07
    sample = Sample(np.zeros((SIDE, SIDE, 1), np.uint8), masks_of(truth), classes.astype(np.int32), "p", "image.png")
    order = np.argsort(-scores)
    detections = Detections(
        found[order].astype(np.float32), scores[order].astype(np.float32), ids[order].astype(np.int32),
        masks_of(found[order]),
    )  # fmt: skip
    return sample, detections


def iou(first, second):
    width, height = (min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1))
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both) if sum(areas) else 0.0


def naively(detections, confidence, nms_iou, most):
    """Suppression as it is defined, a detection at a time, then confidence, then the number."""
    kept = []
    for index, (box, class_id) in enumerate(zip(detections.boxes, detections.class_ids, strict=True)):
        rivals = [other for other in kept if detections.class_ids[other] == class_id]
        if all(iou(box, detections.boxes[other]) <= nms_iou[class_id - 1] for other in rivals):
            kept.append(index)
    kept = [i for i in kept if detections.scores[i] >= np.float32(confidence[detections.class_ids[i] - 1])][:most]
    return Detections(*(values[kept] for values in (detections.boxes, detections.scores, detections.class_ids,
                                                    detections.masks)))  # fmt: skip


def brute_force(pairs, confidence, nms_iou, most):
    evaluator = Evaluator(("iso", "hypo"))
    for sample, detections in pairs:
        evaluator.add(sample, naively(detections, confidence, nms_iou, most))
    scores = evaluator.summary(0.0)
    return (scores.get("dice", 0) + scores.get("f1", 0)) / 2


def search_of(pairs, most=100):
    return ThresholdSearch([make_case(*each, CLASSES) for each in pairs], CLASSES, most)


@settings(max_examples=40)
@given(
    st.integers(0, 2**31),
    st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
    st.sampled_from([2, 100]),
)
def test_any_threshold_set_scores_as_the_evaluator_says(seed, confidence, nms_iou, most):
    generator = np.random.default_rng(seed)
    pairs = [pair(generator) for _ in range(4)]
    # A score that equals the confidence within float32 is shown by the one and not by the other.
    assert search_of(pairs, most).value(confidence, nms_iou) == pytest.approx(
        brute_force(pairs, confidence, nms_iou, most), abs=1e-6
    )


def test_the_search_finds_what_trying_all_finds():
    generator = np.random.default_rng(5)
    pairs = [pair(generator) for _ in range(6)]
    search = search_of(pairs)
    grid = product(np.arange(0.05, 0.951, 0.05), np.arange(0.1, 0.91, 0.1))
    best = max(brute_force(pairs, [confidence] * 2, [nms] * 2, 100) for confidence, nms in grid)
    found = search.best(200, per_class=False, start=(0.5, 0.5))
    assert found.value >= best - 1e-9
    assert search.value(found.confidence, found.nms_iou) == pytest.approx(found.value)
    assert len(set(found.confidence)) == len(set(found.nms_iou)) == 1


def test_thresholds_of_each_class_tell_classes_apart():
    # Of class 1 only scores of 0.9 are right, of class 2 those of 0.2 too: no shared confidence serves both.
    boxes = np.array([[0, 0, 8, 8], [12, 0, 20, 8], [0, 12, 8, 20]])
    sample = Sample(
        np.zeros((SIDE, SIDE, 1), np.uint8), masks_of(boxes[[0, 2]]), np.array([1, 2], np.int32), "p", "image.png"
    )
    found = Detections(
        boxes.astype(np.float32), np.array([0.9, 0.6, 0.2], np.float32), np.array([1, 1, 2], np.int32), masks_of(boxes)
    )
    search = search_of([(sample, found)])
    shared = search.best(150, per_class=False, start=(0.5, 0.5))
    apart = search.best(150, per_class=True, start=(0.5, 0.5))
    assert shared.value < apart.value == 1
    assert apart.confidence[0] > 0.6 and apart.confidence[1] <= 0.2


def test_of_equal_sets_the_middle_one_is_taken():
    boxes = np.array([[0, 0, 8, 8], [12, 0, 20, 8]])
    sample = Sample(np.zeros((SIDE, SIDE, 1), np.uint8), masks_of(boxes[:1]), np.ones(1, np.int32), "p", "image.png")
    found = Detections(
        boxes.astype(np.float32), np.array([0.8, 0.4], np.float32), np.ones(2, np.int32), masks_of(boxes)
    )
    best = search_of([(sample, found)]).best(200, per_class=False, start=(0.45, 0.5))
    assert best.confidence[0] == pytest.approx(0.6, abs=0.1)


def test_without_any_instance_or_detection_the_score_is_zero():
    sample = Sample(
        np.zeros((SIDE, SIDE, 1), np.uint8), masks_of(np.zeros((0, 4))), np.zeros(0, np.int32), "p", "image.png"
    )
    assert search_of([(sample, Detections.empty(SIDE, SIDE))]).best(5, per_class=True, start=(0.5, 0.5)).value == 0


def test_suppression_drawn_by_hand():
    # B overlaps A by 6/10, C overlaps B by 6/10 and A by 1/3: at 0.5 A drops B, which then cannot drop C.
    boxes = np.array([[0, 0, 8, 1], [2, 0, 8, 1], [4, 0, 8, 1]], float)
    assert box_ious(boxes)[0, 1:] == pytest.approx([6 / 10, 4 / 12])
    assert survivors(box_ious(boxes), 0.5).tolist() == [0, 2]
    assert survivors(box_ious(boxes), 0.6).tolist() == [0, 1, 2]


class Samples(list):
    """A data set of samples in memory."""

    def sample(self, index, context_slices):
        return self[index]


@pytest.mark.usefixtures("eager")
def test_kept_candidates_suppressed_are_what_the_model_itself_gives():
    from mrcnn.models import MaskRCNN

    config = ModelConfig(
        class_names=("iso", "hypo"), image_size=64, channels=1, backbone="small", fpn_channels=16, head_width=32,
        mask_channels=16, mask_convolutions=1, proposals_per_level=40, proposals=60, max_detections=8,
        score_threshold=0.01, nms_iou=0.3,
    )  # fmt: skip
    model = MaskRCNN(config, seed=1)
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (64, 64, 1), dtype=np.uint8) for _ in range(3)]
    samples = [
        Sample(image, np.zeros((0, 64, 64), bool), np.zeros(0, np.int32), "p", f"{number}.png")
        for number, image in enumerate(images)
    ]
    cases = cache_candidates(model, Samples(samples), batch_size=2)
    again = list(suppressed(cases, [0.3, 0.3], 8))
    for case, found in zip(again, model.detect(images, batch_size=2), strict=True):
        assert len(found) > 1
        assert case.scores == pytest.approx(found.scores, abs=1e-5)
        assert case.classes.tolist() == found.class_ids.tolist()
