import numpy as np
import pytest

from mrcnn.phantoms.shapes import Outline, smooth_noise
from mrcnn.phantoms.ultrasound import Scanner, Tissue, b_mode

SCANNER = Scanner(axial_mm=0.12, lateral_mm=0.25, focus=0.5, looks=2, dynamic_range_db=60, gain_db=30, noise_db=-60)


def seen(level, rng_seed=0, **settings):
    scanner = Scanner(**{**vars(SCANNER), **settings})
    level = np.asarray(level, np.float32)
    return b_mode(np.random.default_rng(rng_seed), level, np.zeros_like(level), 0.1, scanner).astype(float)


@pytest.mark.parametrize("scale", [(1, 1), (4, 9), (2.5, 40)])
def test_smooth_noise_has_mean_zero_and_variance_one_whatever_its_scale(scale):
    field = np.stack([smooth_noise(np.random.default_rng(seed), (60, 80), *scale) for seed in range(200)])
    assert field.shape == (200, 60, 80) and field.dtype == np.float32
    assert abs(field.mean()) < 0.1
    # Four standard errors for the smoothest, which has some 50 independent values a draw; then the border alone.
    assert field.var(0).mean() == pytest.approx(1, abs=0.06)
    assert field[:, 0].var() == pytest.approx(1, abs=0.25) and field[:, :, -1].var() == pytest.approx(1, abs=0.25)


def test_smooth_noise_is_smoother_along_the_axis_of_the_larger_scale():
    field = smooth_noise(np.random.default_rng(0), (200, 200), 2, 20)
    assert np.abs(np.diff(field, axis=0)).mean() > 4 * np.abs(np.diff(field, axis=1)).mean()


def test_ten_decibels_more_are_as_many_gray_levels_as_the_dynamic_range_says():
    level = np.zeros((200, 200))
    level[:, 100:] = -10
    picture = seen(level)
    # Log compression: 10 dB of 60 dB on 255 gray levels.
    assert picture[:, :90].mean() - picture[:, 110:].mean() == pytest.approx(10 / 60 * 255, abs=2)


def test_compounding_lessens_speckle_and_keeps_the_level():
    one, eight = seen(np.zeros((200, 200)), looks=1), seen(np.zeros((200, 200)), looks=8)
    assert eight.std() < 0.5 * one.std()
    # The mean of the logarithm of an average of n exponentials rises by at most 2.5 dB (Euler's constant) with n.
    assert 0 < eight.mean() - one.mean() < 2.51 / 60 * 255 + 1


def test_speckle_is_wider_across_the_beam_than_along():
    picture = seen(np.zeros((200, 200)))
    picture -= picture.mean()
    along = (picture[1:] * picture[:-1]).mean()
    across = (picture[:, 1:] * picture[:, :-1]).mean()
    assert across > along > 0


def test_interfaces_are_bright_lines_and_silence_is_noise():
    level = np.full((100, 100), -80, np.float32)
    mirror = np.zeros_like(level)
    mirror[50] = 1
    picture = b_mode(np.random.default_rng(0), level, mirror, 0.1, SCANNER).astype(float)
    assert picture.mean(1).argmax() in (49, 50, 51)
    assert picture[:40].max() == 0  # noise at -60 … -48 dB lies below black at -30 dB


@pytest.mark.parametrize("center", [(0.0, 3.0), (-3.9, 0.2), (40.0, 40.0)], ids=["inside", "corner", "outside"])
def test_painting_near_an_outline_gives_the_bits_of_painting_everywhere(center):
    tissue, rng = Tissue(60, 80, 0.1), np.random.default_rng(0)
    level, mirror = (rng.uniform(0, 1, tissue.shape).astype(np.float32) for _ in range(2))
    tissue.level, tissue.mirror = level.copy(), mirror.copy()
    distance = Outline(*center, 1.5, 1.0).distance(tissue.x, tissue.z)
    columns = rng.uniform(0, 1, (1, 80)).astype(np.float32)
    tissue.fill(distance, columns, attenuation=0.3, edge_mm=0.2)
    tissue.add_interface(distance, columns, thickness_mm=0.1)

    inside = np.clip(0.5 - distance / 0.4, 0, 1)
    along_z, along_x = np.gradient(distance)
    facing = along_z**2 / np.maximum(along_z**2 + along_x**2, np.float32(0.01))
    line = np.exp((distance / np.float32(0.1)) ** 2 / -2)
    assert np.array_equal(tissue.level, level + inside * (columns - level))
    assert np.array_equal(tissue.attenuation, inside * np.float32(0.3))
    assert np.array_equal(tissue.mirror, mirror * (1 - inside) + columns * facing * line)
