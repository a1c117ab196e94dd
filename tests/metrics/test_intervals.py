import numpy as np
import pytest

from mrcnn.metrics.intervals import bootstrap_intervals


def mean_of(values):
    return lambda weights: {"mean": weights @ values / weights.sum(axis=1)}


def test_agrees_with_normal_theory_on_a_large_sample():
    values = np.random.default_rng(1).normal(3, 2, 1000)
    low, high = bootstrap_intervals(mean_of(values), [str(n) for n in range(1000)], resamples=4000, seed=0)["mean"]
    error = values.std() / np.sqrt(1000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_patients_not_images_are_drawn():
    # Four equal images of each patient say no more than one: an interval over images would be half as wide.
    values = np.repeat(np.random.default_rng(2).normal(0, 1, 200), 4)
    patients = [str(number // 4) for number in range(800)]
    low, high = bootstrap_intervals(mean_of(values), patients, resamples=2000, seed=0)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)


def test_two_patients_by_hand():
    # Draws: both 0 (1/4), one each (1/2), both 1 (1/4); the 2.5th and 97.5th percentiles are the ends.
    assert bootstrap_intervals(mean_of(np.array([0.0, 1.0])), ["a", "b"], resamples=1000, seed=0)["mean"] == (0, 1)


def test_constant_has_no_width():
    assert bootstrap_intervals(mean_of(np.full(5, 0.5)), list("abcde"), resamples=100, seed=0)["mean"] == pytest.approx(
        (0.5, 0.5)
    )


@pytest.mark.parametrize("patients", [[], ["a"], ["a", "a", "a"]])
def test_fewer_than_two_patients(patients):
    assert bootstrap_intervals(mean_of(np.ones(len(patients))), patients, resamples=100, seed=0) == {}


def test_undefined_resamples_are_left_out():
    def statistic(weights):
        return {"sometimes": np.where(weights[:, 0] > 0, 7.0, np.nan), "never": np.full(len(weights), np.nan)}

    assert bootstrap_intervals(statistic, ["a", "b"], resamples=100, seed=0) == {"sometimes": (7, 7)}


def test_seed_decides():
    values = np.random.default_rng(3).normal(0, 1, 30)
    patients = [str(number) for number in range(30)]
    first, again, other = (
        bootstrap_intervals(mean_of(values), patients, resamples=120, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_as_many_resamples_as_asked_each_with_as_many_patients():
    drawn = []

    def statistic(weights):
        drawn.append(weights)
        return {"patients": weights[:, 0] + weights[:, 2] + weights[:, 3]}

    # Image 1 is of image 0's patient and follows it.
    assert bootstrap_intervals(statistic, ["a", "a", "b", "c"], resamples=130, seed=0)["patients"] == (3, 3)
    weights = np.concatenate(drawn)
    assert weights.shape == (130, 4)
    assert (weights[:, 0] == weights[:, 1]).all()
