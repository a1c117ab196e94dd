"""Opened samples kept in memory: each file is opened once, whoever makes the batches."""

import gc
import importlib
import os
import pickle
import sys

import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.data import Loader, read_dataset
from mrcnn.data.loading.cache import SampleCache
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augmentation import Augmentation

CONFIG = ModelConfig(class_names=("iso", "hypo"), image_size=64, max_instances=4, mask_pool_size=4)
COUNTED = """
import os
from mrcnn.data import make_batch
from mrcnn.data.loading.batch_builder import BatchBuilder

as_it_is = BatchBuilder._open

def counted(self, index):
    with open({log!r}, "a") as log:
        log.write(f"{{index}}\\n")
    return as_it_is(self, index)

def count_in_workers(samples, config):
    return make_batch(samples, config)

BatchBuilder._open = counted
"""


def sample(index, channels=1):
    rng = np.random.default_rng(index)
    masks = rng.random((2, 40, 30)) < 0.5
    image = rng.integers(0, 256, (40, 30, channels), np.uint8)
    return Sample(image, masks, np.array([1, 2], np.int32), patient_id=f"p{index}", source=f"{index}.png", label="a")


def assert_same(one, other):
    assert (one.source, one.patient_id, one.label) == (other.source, other.patient_id, other.label)
    for name in ("image", "masks", "class_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def never(index):
    raise AssertionError(f"opened {index} again")


def test_what_fits_is_opened_once():
    size = len(pickle.dumps(sample(0).image)) + 600  # of one sample, and something more
    cache = SampleCache(5, 2 * size)
    opened = []
    for _ in range(2):
        for index in range(5):
            found = cache.get(index, lambda index: (opened.append(index), sample(index))[1])
            assert_same(found, sample(index))
    assert opened[:5] == [0, 1, 2, 3, 4] and 1 <= 10 - len(opened) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process keeps its own")
def test_a_copy_has_what_any_other_keeps_and_overwrites_nothing():
    cache = SampleCache(9, 1 << 20)
    copies = [pickle.loads(pickle.dumps(cache)) for _ in range(2)]
    for number, copy in enumerate(copies):
        copy.use_segment(number, 2)
    for index in range(6):
        copies[index % 2].get(index, sample)
    later = pickle.loads(pickle.dumps(cache))  # as of a worker that stands in for one that was killed
    later.use_segment(1, 2)
    for index in (6, 7):
        later.get(index, sample)
    for index in range(8):
        for each in (cache, *copies, later):
            assert_same(each.get(index, never), sample(index))


def test_the_layout_in_memory_is_the_same_kept_or_not():
    turned = Sample(
        sample(0, 3).image.transpose(1, 0, 2), np.zeros((0, 30, 40), bool), np.zeros(0, np.int32), "p", "turned"
    )
    strides = {
        SampleCache(1, budget).get(0, lambda index: turned).image.strides for budget in (0, 1 << 20) for _ in range(2)
    }
    kept = SampleCache(1, 1 << 20)
    strides |= {kept.get(0, lambda index: turned).image.strides for _ in range(2)}
    assert strides == {(120, 3, 1)}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each process keeps its own")
@pytest.mark.parametrize("workers", [0, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_each_image_is_opened_once_by_any_number_of_workers(phantom_folder, workers, tmp_path, monkeypatch):
    """Images go to the workers in another order each epoch; a new stage of a training has new workers."""
    name = f"counted_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(COUNTED.format(log=str(tmp_path / "log")))
    monkeypatch.syspath_prepend(tmp_path)
    dataset = read_dataset(phantom_folder).subset(range(12))
    options = {"augmentation": Augmentation(flip_horizontal=0.5), "shuffle": True}
    expected = [batch for epoch in range(3) for batch in Loader(dataset, CONFIG, 2, **options).epoch(epoch)]
    module = importlib.import_module(name)
    try:
        loader = Loader(dataset, CONFIG, 2, workers=workers, batch_of=module.count_in_workers, **options)
        found = [*loader.epoch(0), *loader.epoch(1)]
        begun = loader.epoch(2)
        next(begun)
        begun.close()  # ends the workers
        found += [*loader.epoch(2)]
        descriptors = set(os.listdir("/proc/self/fd"))
        del loader, begun
        gc.collect()
        assert len(set(os.listdir("/proc/self/fd"))) < len(descriptors)
    finally:
        module.BatchBuilder._open = module.as_it_is
    opened = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert sorted(opened) == list(range(12))
    for one, other in zip(found, expected, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
