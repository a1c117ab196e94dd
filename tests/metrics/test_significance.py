"""Paired comparison of two models, and pooled folds."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator
from mrcnn.metrics.measurement import class_means
from mrcnn.metrics.significance import EXACT, operating_point_statistic, paired_differences, permutation_p


def mean_of(first, second):
    """A statistic with one value: the mean over images."""
    values = np.concatenate([first, second])[:, None]
    return lambda weights: {"mean": class_means(values, weights)[:, 0]}


def test_few_patients_are_gone_through_exactly():
    rng = np.random.default_rng(0)
    first, second = rng.random(8), rng.random(8) + 0.2
    found = permutation_p(mean_of(first, second), [f"p{number}" for number in range(8)])["mean"]
    expected = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a) - np.mean(b), permutation_type="samples", n_resamples=np.inf
    )
    assert found == pytest.approx(expected.pvalue)


def test_images_of_a_patient_are_exchanged_together():
    first, second = np.array([0.1, 0.2, 0.5, 0.6, 0.3]), np.array([0.4, 0.5, 0.4, 0.9, 0.8])
    patients = ["a", "a", "b", "b", "c"]
    gain = second - first
    per_patient = [gain[:2].sum(), gain[2:4].sum(), gain[4]]
    sums = [abs(sum(sign * each for sign, each in zip(signs, per_patient, strict=True)))
            for signs in product((1, -1), repeat=3)]  # fmt: skip
    expected = np.mean([each >= abs(sum(per_patient)) - 1e-12 for each in sums])
    assert permutation_p(mean_of(first, second), patients)["mean"] == pytest.approx(expected)


def test_many_patients_are_sampled_and_p_is_never_zero():
    first, count = np.zeros(40), 40
    patients = [str(number) for number in range(count)]
    assert count > EXACT
    assert permutation_p(mean_of(first, first + 1), patients)["mean"] == pytest.approx(1 / 10_001)
    assert permutation_p(mean_of(first, first), patients)["mean"] == 1


def test_under_the_null_hypothesis_p_is_no_smaller_than_it_says():
    rng = np.random.default_rng(1)
    patients = [str(number) for number in range(9)]
    ps = [permutation_p(mean_of(*rng.random((2, 9))), patients)["mean"] for _ in range(300)]
    assert np.mean(np.array(ps) <= 0.1) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)


def test_the_scores_are_those_of_the_evaluation():
    def row(dice, hits, false, missed):
        counts = {"true_positives": hits, "false_positives": false, "misses": missed}
        return {**counts, "dice/iso": dice, "dice/hypo": None}

    first, second = [row(0.5, 1, 1, 0), row(None, 0, 1, 0)], [row(0.8, 1, 0, 0), row(0.0, 0, 0, 1)]
    statistic = operating_point_statistic(first, second, ("iso", "hypo"))
    of_first, of_second = (statistic(np.array([weights], float)) for weights in ([1, 1, 0, 0], [0, 0, 1, 1]))
    assert (of_first["dice"][0], of_second["dice"][0]) == (0.5, 0.4)
    assert (of_first["precision"][0], of_second["recall"][0]) == (pytest.approx(1 / 3), 0.5)
    assert np.isnan(of_first["dice/hypo"][0])
    assert "dice/hypo" not in permutation_p(statistic, ["a", "b"])


def evaluator(shifts):
    """Of one square an image, found `shift` pixels beside it."""
    found = Evaluator(("iso",))
    for number, shift in enumerate(shifts):
        truth, guess = np.zeros((2, 1, 40, 40), bool)
        truth[0, 10:20, 10:20] = True
        guess[0, 10:20, 10 + shift : 20 + shift] = True
        image = np.zeros((40, 40, 1), np.uint8)
        sample = Sample(image, truth, np.ones(1, np.int32), f"p{number}", f"{number}.png")
        box = np.array([[10 + shift, 10, 20 + shift, 20]], np.float32)
        found.add(sample, Detections(box, np.full(1, 0.9, np.float32), np.ones(1, np.int32), guess))
    return found


def test_a_model_that_is_better_everywhere_has_the_least_p():
    found = paired_differences(evaluator([4] * 6), evaluator([1] * 6), (0.5, 0.5), resamples=99)["dice"]
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3)
    assert found.p == pytest.approx(2 / 100)


def test_p_is_twice_the_share_on_the_other_side_of_zero():
    first, second = evaluator([3, 3, 3, 0, 3, 3]), evaluator([1, 2, 3, 4, 2, 3])
    found = paired_differences(first, second, (0.5, 0.5), resamples=400, seed=3)["dice"]
    rng = np.random.default_rng(3)
    gains = np.array([0.2, 0.1, 0, -0.4, 0.1, 0])
    drawn = np.concatenate([rng.multinomial(6, np.full(6, 1 / 6), 50) @ gains for _ in range(8)])
    drawn = np.where(np.abs(drawn) < 1e-9, 0, drawn)
    lesser = min((drawn <= 0).sum(), (drawn >= 0).sum())
    # Equal gains leave rounding on either side of zero, a resample or two.
    assert found.p == pytest.approx(min(1, 2 * (lesser + 1) / 401), abs=0.03)


def test_without_resamples_there_is_neither_interval_nor_p():
    found = paired_differences(evaluator([1, 2]), evaluator([2, 3]), (0.5, 0.5), resamples=0)["dice"]
    assert found.value == pytest.approx(-0.1)
    assert np.isnan([found.low, found.high, found.p]).all()


def test_a_pool_is_one_evaluator_of_all_images(random_pairs, evaluated):
    pairs = random_pairs(1, images=12)
    pool = Evaluator.pooled([evaluated(pairs[:5]), evaluated(pairs[5:])])
    whole = evaluated(pairs)
    assert pool.summary(0.4) == whole.summary(0.4)
    assert pool.best_confidence() == whole.best_confidence()
    assert pool.intervals(0.4, resamples=30) == whole.intervals(0.4, resamples=30)


def test_each_part_of_a_pool_stands_at_its_own_threshold(random_pairs, evaluated):
    """What is below a part's threshold counts for nothing at the working point, as if it had not been found."""
    pairs = random_pairs(2, images=12)
    pool = Evaluator.pooled([evaluated(pairs[:5]), evaluated(pairs[5:])], [0.3, 0.7])
    cut = [(sample, found.above(0.3 if number < 5 else 0.7)) for number, (sample, found) in enumerate(pairs)]
    expected, found = evaluated(cut).summary(0.0), pool.summary(0.5)
    for name in ("dice", "iou", "hd95", "precision", "recall", "f1", "detections", "misses", "detection_rate"):
        assert found[name] == expected[name]
    # AP looks at all detections, whatever the threshold.
    assert found["mask_ap"] == evaluated(pairs).summary(0.5)["mask_ap"]
    assert [row["detections"] for row in pool.per_case(0.5)] == [len(each) for _, each in cut]


def test_a_difference_is_that_of_the_scores_and_of_a_model_with_itself_nothing(random_pairs, evaluated):
    pairs = random_pairs(3, images=20)
    first = evaluated(pairs)
    # The second model finds what the first does, without the poorer half.
    second = evaluated([(sample, found.above(0.5)) for sample, found in pairs])
    for name, each in paired_differences(first, first, (0.3, 0.3), resamples=50).items():
        assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1), name
    found = paired_differences(first, second, (0.1, 0.1), resamples=200)
    before, after = first.summary(0.1), second.summary(0.1)
    for name in ("mask_ap", "mask_ap50", "dice", "precision", "recall", "froc"):
        assert found[name].value == pytest.approx(after[name] - before[name])
        assert found[name].low <= found[name].value <= found[name].high
    assert found["recall"].high <= 0


def test_other_images_are_no_pair(random_pairs, evaluated):
    pairs = random_pairs(4, images=4)
    with pytest.raises(ValueError, match="expected the same ones in the same order"):
        paired_differences(evaluated(pairs), evaluated(pairs[::-1]), (0.5, 0.5))


def test_the_interval_of_a_difference_is_drawn_for_both_at_once(random_pairs, evaluated):
    """Two equally good models that fail on the same patients: their difference is certain, their scores are not."""
    pairs = random_pairs(5, images=30)
    shifted = [
        (sample, Detections(found.boxes, found.scores * np.float32(0.999), found.class_ids, found.masks))
        for sample, found in pairs
    ]
    first, second = evaluated(pairs), evaluated(shifted)
    (each,) = [paired_differences(first, second, (0.5, 0.499), resamples=100)["mask_ap50"]]
    ends = first.intervals(0.5, resamples=100)
    assert each.high - each.low < 0.1 * (ends["mask_ap50_hi"] - ends["mask_ap50_lo"])
