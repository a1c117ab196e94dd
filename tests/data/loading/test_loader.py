"""What a loader gives, whoever makes it, and what it leaves behind: nothing."""

import contextlib
import gc
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from itertools import chain, islice

import numpy as np
import psutil
import pytest

from mrcnn.config import ClassifierConfig, ModelConfig
from mrcnn.data import Loader, make_batch, read_dataset
from mrcnn.data.loading import loader as loading
from mrcnn.data.loading import prefetch, worker_pool
from mrcnn.data.loading.prefetch import Prefetcher, map_in_threads
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.dense_encoding import make_label_batch
from mrcnn.errors import InputError

CONFIG = ModelConfig(class_names=("iso", "hypo"), image_size=64, max_instances=4, mask_pool_size=4)
STRONG = Augmentation(flip_horizontal=0.5, rotate_degrees=20, scale=0.2, noise=0.05)


@pytest.fixture
def dataset(coco, write_coco):
    for index in range(3, 8):
        coco["images"].append({"id": index, "file_name": f"c_{index}.png", "height": 60 + index, "width": 90})
        square = [[10, 10, 10 + 5 * index, 10, 10 + 5 * index, 50, 10, 50]]
        coco["annotations"].append({"id": index + 10, "image_id": index, "category_id": 3, "segmentation": square})
    return read_dataset(write_coco(coco))


def assert_same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            np.testing.assert_array_equal(one[name], other[name])


def test_in_order_without_augmentation(dataset):
    loader = Loader(dataset, CONFIG, 3)
    assert len(loader) == 3
    expected = [make_batch([dataset[index] for index in part], CONFIG) for part in ([0, 1, 2], [3, 4, 5], [6])]
    assert_same(loader.epoch(0), expected)
    assert_same(loader.epoch(9), expected)  # once more, from the cache


@pytest.mark.parametrize(("skipped", "workers"), [(0, 0), (1, 0), (2, 0), (3, 0), (7, 0), (2, 1), (7, 1)])
def test_a_stream_that_begins_later_gives_what_comes_then(dataset, skipped, workers):
    """Three batches an epoch: some of these begin within one, some in a later one."""
    from mrcnn.models.training.batches import repeat_epochs

    made = {"augmentation": STRONG, "shuffle": True, "seed": 3}
    whole = islice(repeat_epochs(Loader(dataset, CONFIG, 3, **made), first_epoch=2), skipped, 9)
    later = islice(
        repeat_epochs(Loader(dataset, CONFIG, 3, **made, workers=workers), first_epoch=2, skipped=skipped), 9 - skipped
    )
    assert_same((batch for (batch,) in later), (batch for (batch,) in whole))


def test_the_files_of_a_batch_are_known_by_its_place(dataset):
    loader = Loader(dataset, CONFIG, 3, shuffle=True, seed=3)
    names = [dataset.records[index].file_name for index in loader.order(5)[1]]
    assert loader.file_names(4, 3 + 1) == names


def test_any_number_of_workers_gives_the_same(dataset, workers_alive):
    options = {"augmentation": STRONG, "shuffle": True, "seed": 4}
    alone, several = Loader(dataset, CONFIG, 2, **options), Loader(dataset, CONFIG, 2, workers=2, **options)
    for epoch in (0, 1, 0):
        assert_same(alone.epoch(epoch), several.epoch(epoch))
    assert len(workers_alive()) == 2  # they wait for the next epoch
    del several
    gc.collect()
    assert not workers_alive()


def test_threads_yield_in_order_a_few_items_ahead_and_raise_in_place():
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.02 if item == 0 else 0)  # later items are ready first
        if item == 50:
            raise InputError("item 50")
        return (item, -item)

    results = map_in_threads(work, iter(range(1_000)))
    assert list(islice(results, 4)) == [0, 0, 1, -1]
    assert len(begun) <= 2 + 2 * (os.cpu_count() or 1)
    with pytest.raises(InputError, match="item 50"):
        list(results)
    assert max(begun) <= 51 + 2 * (os.cpu_count() or 1)
    assert list(map_in_threads(work, [])) == []


def test_samples_are_those_of_the_first_batches(dataset):
    loader = Loader(dataset, CONFIG, 2, augmentation=STRONG, shuffle=True, seed=3)
    batches = list(islice(loader.epoch(0), 2))
    samples = loader.samples(4)
    assert_same([make_batch(samples[:2], CONFIG), make_batch(samples[2:], CONFIG)], batches)
    assert len(loader.samples(99)) == 8  # one epoch: its last batch is filled up


def test_epochs_and_seeds_differ(dataset):
    def first(seed, epoch):
        return next(Loader(dataset, CONFIG, 7, augmentation=STRONG, seed=seed).epoch(epoch))["image"]

    np.testing.assert_array_equal(first(0, 0), first(0, 0))
    assert not np.array_equal(first(0, 0), first(0, 1))
    assert not np.array_equal(first(0, 0), first(1, 0))


def test_shuffled_epochs_hold_every_image_and_fill_up_with_their_first(dataset):
    loader = Loader(dataset, CONFIG, 3, shuffle=True)
    orders = [list(chain.from_iterable(loader.order(epoch))) for epoch in range(3)]
    for order in orders:
        assert sorted(order[:7]) == list(range(7))
        assert order[7:] == order[:2]
    assert orders[0] != orders[1] != orders[2]
    assert [batch["image"].shape[0] for batch in loader.epoch(0)] == [3, 3, 3]
    few = Loader(dataset.subset([0]), CONFIG, 4, shuffle=True)
    assert few.order(0) == [[0, 0, 0, 0]]


@pytest.mark.parametrize("workers", [0, 1])
def test_images_drawn_by_weight_into_batches_of_labels(dataset, workers):
    config = ClassifierConfig(class_names=("no", "yes"), image_size=64)
    filled = np.array([len(record.class_ids) > 0 for record in dataset.records])
    assert filled.any()
    loader = Loader(
        dataset, config, 2, shuffle=True, workers=workers, batch_of=make_label_batch, weights=np.where(filled, 3.0, 0)
    )
    (*_, last) = loader.epoch(0)
    assert last.keys() == {"image", "positive"} and last["positive"].tolist() == [1, 1]
    drawn = np.bincount([index for epoch in range(60) for batch in loader.order(epoch) for index in batch], minlength=7)
    assert set(drawn[~filled]) <= {0}
    assert drawn[filled].min() > 0.7 * drawn[filled].mean()
    assert loader.order(0) == loader.order(0) != loader.order(1)


def test_dropping_the_last(dataset):
    loader = Loader(dataset, CONFIG, 3, drop_last=True)
    assert len(loader) == 2
    assert len(list(loader.epoch(0))) == 2
    assert len(Loader(dataset, CONFIG, 9, drop_last=True, shuffle=True)) == 0
    assert list(Loader(dataset, CONFIG, 9, drop_last=True).epoch(0)) == []


def test_no_image_at_all(dataset):
    assert list(Loader(dataset.subset([]), CONFIG, 2, shuffle=True, workers=1).epoch(0)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_closing_early_leaves_nothing_behind(dataset, workers, workers_alive):
    threads = set(threading.enumerate())
    batches = Loader(dataset, CONFIG, 1, augmentation=STRONG, shuffle=True, workers=workers).epoch(0)
    next(batches)
    batches.close()
    assert not workers_alive()
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_arrive_with_the_file_named(dataset, workers, workers_alive):
    dataset.records[4].path.write_bytes(b"not an image any more")
    batches = Loader(dataset, CONFIG, 2, workers=workers).epoch(0)
    next(batches)
    next(batches)
    with pytest.raises(InputError, match=r"c_5\.png: expected a readable"):
        next(batches)
    assert not workers_alive()


@pytest.mark.parametrize("workers", [0, 1])
def test_unforeseen_errors_name_the_file_too(dataset, workers):
    broken = dataset.subset([3, 3])
    object.__setattr__(broken.records[0], "class_ids", np.array([0], np.int32))  # which no reader yields
    with pytest.raises(RuntimeError, match=r"c_4\.png: ValueError: c_4\.png: class id 0"):
        list(Loader(broken, CONFIG, 2, workers=workers).epoch(0))


def test_a_killed_worker_is_told(dataset, workers_alive):
    loader = Loader(dataset, CONFIG, 1, workers=1)
    assert len(list(loader.epoch(0))) == 7
    os.kill(workers_alive()[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match="a worker process of the loader ended early, with exit status -9"):
        list(loader.epoch(1))
    assert len(list(loader.epoch(1))) == 7  # with a new one


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(dataset, tmp_path):
    program = textwrap.dedent(
        f"""
        import os, psutil, signal, sys
        from mrcnn.config import ModelConfig
        from mrcnn.data import Loader, read_dataset
        config = ModelConfig(class_names=("iso", "hypo"), image_size=64)
        batches = Loader(read_dataset({str(tmp_path)!r}), config, 1, workers=1).epoch(0)
        next(batches)  # no `if __name__ == "__main__"` needed
        print(*[child.pid for child in psutil.Process().children()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (worker,) = (int(pid) for pid in done.stdout.split())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(worker).wait(timeout=20)


HANGING = """
import threading
from mrcnn.data import make_batch

answered = threading.Event()

def hangs_at_the_third(samples, config):
    if samples[0].source.endswith("c_3.png"):
        answered.wait()
    return make_batch(samples, config)
"""


@pytest.fixture
def hangs_at_the_third(tmp_path, monkeypatch):
    """Makes batches, but none that begins with the third image: as if its network folder were dead."""
    name = f"hanging_{tmp_path.name}"  # each test's own module, which worker processes import too
    (tmp_path / f"{name}.py").write_text(HANGING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(prefetch, "_SHUTDOWN_SECONDS", 0.2)
    module = importlib.import_module(name)
    yield module.hangs_at_the_third
    module.answered.set()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_never_comes_is_told_and_given_up(
    dataset, workers, workers_alive, hangs_at_the_third, monkeypatch, caplog
):
    monkeypatch.setattr(loading, "NOTICE_SECONDS", 0.5)
    monkeypatch.setattr(loading, "DEADLINE_SECONDS", 20)
    loader = Loader(dataset, CONFIG, 1, workers=workers, batch_of=hangs_at_the_third)
    batches = loader.epoch(0)
    next(batches)
    monkeypatch.setattr(loading, "DEADLINE_SECONDS", 1.5)
    begun = time.monotonic()
    next(batches)
    with pytest.raises(InputError, match=r"^c_3\.png: waiting for 1\.5 s of at most 1\.5; the folder"):
        next(batches)
    assert time.monotonic() - begun < 20
    assert "c_3.png: waiting for 0.5 s of at most 1.5" in caplog.text
    assert not workers_alive()


@pytest.mark.parametrize("workers", [0, 1])
def test_who_waits_for_a_batch_can_be_stopped(dataset, workers, hangs_at_the_third, workers_alive):
    stop = threading.Event()
    loader = Loader(dataset, CONFIG, 1, workers=workers, batch_of=hangs_at_the_third)
    batches = loader.epoch(0, first=2, stopped=stop.is_set)
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert not workers_alive()


def test_a_process_that_outlives_its_kill_is_left_behind():
    """One that waits for a dead disk ends no sooner than the disk answers."""

    class Undying:
        stdin = stdout = None  # closing them would wait too

        def kill(self):
            pass

        def wait(self, seconds):
            raise subprocess.TimeoutExpired("worker", seconds)

    begun = time.monotonic()
    worker_pool._end([Undying(), Undying()])
    assert time.monotonic() - begun < 1


def test_ahead_keeps_order_depth_and_errors():
    made = []

    def source():
        for index in range(10):
            made.append(index)
            yield index
        raise KeyError("end")

    items = Prefetcher(source(), 2)
    assert next(items) == 0
    taken = [0]
    with pytest.raises(KeyError, match="end"):
        for item in items:
            taken.append(item)
            assert len(made) <= len(taken) + 3
    assert taken == list(range(10))
    assert list(items) == []
    items.close()

    def ends():
        yield 0
        raise SystemExit

    items = Prefetcher(ends(), 2)
    assert next(items) == 0
    with pytest.raises(SystemExit):
        next(items)

    endless = Prefetcher(iter(int, 1), 3)
    assert next(endless) == 0
    endless.close()
    assert list(endless) == []


def test_data_needs_no_framework():
    """Workers import this package, so it must start fast."""
    program = "import sys, mrcnn.data; print([m for m in ('keras', 'tensorflow', 'jax', 'imgaug') if m in sys.modules])"
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
