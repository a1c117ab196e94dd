import numpy as np

from mrcnn.metrics.matching import match


def run(ious, truth_classes, classes):
    return match(np.array(ious, float), np.array(truth_classes), np.array(classes)).tolist()


def test_each_detection_takes_its_best():
    assert run([[0.9, 0.6], [0.55, 0.8]], [1, 1], [1, 1]) == [0, 1]


def test_the_better_score_chooses_first_even_when_it_fits_worse():
    assert run([[0.6], [0.9]], [1], [1, 1]) == [0, -1]


def test_a_taken_instance_leaves_the_next_best():
    assert run([[0.9, 0.6], [0.8, 0.7]], [1, 1], [1, 1]) == [0, 1]
    assert run([[0.9, 0.6], [0.8, 0.4]], [1, 1], [1, 1]) == [0, -1]


def test_threshold_is_included():
    assert run([[0.5], [0.49]], [1], [1, 1]) == [0, -1]


def test_other_class_is_no_match():
    assert run([[0.9, 0.6]], [2, 1], [1]) == [1]
    assert run([[0.9]], [2], [1]) == [-1]


def test_equal_ious_take_the_last_as_cocoeval_does():
    assert run([[0.7, 0.7]], [1, 1], [1]) == [1]


def test_nothing_to_match():
    assert run(np.zeros((0, 2)), [1, 1], []) == []
    assert run(np.zeros((2, 0)), [], [1, 1]) == [-1, -1]
    assert run(np.zeros((0, 0)), [], []) == []
