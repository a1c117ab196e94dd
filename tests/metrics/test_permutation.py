from itertools import product

import numpy as np
import pytest
from scipy import stats

from mrcnn.metrics.measurement import class_means
from mrcnn.metrics.significance import EXACT, operating_point_statistic, permutation_p


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
