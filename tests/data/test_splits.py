"""Properties that any split must have, and brute force over small sets."""

import re
import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.data import folds_by_patient, split_by_patient, subsample_negatives
from mrcnn.data.splits import check_splits, find_stated_splits
from mrcnn.errors import InputError

IMAGES = st.lists(
    st.tuples(st.integers(0, 9).map(str), st.lists(st.integers(1, 3), max_size=3)), min_size=1, max_size=30
)
SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.9, 0.1, 0.0), (0.5, 0.25, 0.25), (1.0, 0.0, 0.0), (0.6, 0.0, 0.4)])


def split(dataset, shares=(0.8, 0.1, 0.1), seed=0):
    return split_by_patient(dataset, train=shares[0], val=shares[1], test=shares[2], seed=seed)


@settings(max_examples=150)
@given(images=IMAGES, shares=SHARES, seed=st.integers(0, 3))
def test_every_split(in_memory, images, shares, seed):
    dataset = in_memory(images)
    patients = sorted({patient for patient, _ in images})
    wanted = [name for name, share in zip(("train", "val", "test"), shares, strict=True) if share]
    if len(patients) < len(wanted):
        with pytest.raises(InputError, match=rf"^{len(patients)} (patients?|images): expected at least {len(wanted)}"):
            split(dataset, shares, seed)
        return
    found = split(dataset, shares, seed)
    assert list(found) == ["train", "val", "test"]
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(len(images)))
    for name, indices in found.items():
        assert bool(len(indices)) == (name in wanted)
        assert (np.diff(indices) > 0).all()
    of_patient = {}
    for name, indices in found.items():
        for index in indices:
            assert of_patient.setdefault(images[index][0], name) == name

    classes = {patient: set() for patient in patients}
    for patient, class_ids in images:
        classes[patient] |= set(class_ids)
    everything = set().union(*classes.values())
    in_train = set().union(*(classes[patient] for patient, name in of_patient.items() if name == "train"))
    if in_train != everything and len(patients) <= 7:
        # Then no assignment of patients at all may have every class in train and every wanted split filled.
        for chosen in product(wanted, repeat=len(patients)):
            if set(chosen) == set(wanted):
                held = [classes[p] for p, name in zip(patients, chosen, strict=True) if name == "train"]
                assert set().union(*held) != everything


@settings(max_examples=50)
@given(images=IMAGES, seed=st.integers(0, 3), data=st.data())
def test_the_order_of_the_records_does_not_matter(in_memory, images, seed, data):
    if len({patient for patient, _ in images}) < 3:
        return
    order = data.draw(st.permutations(range(len(images))))
    first = split(in_memory(images), seed=seed)
    second = split(in_memory([images[index] for index in order]), seed=seed)
    for name, indices in first.items():
        assert sorted(indices) == sorted(order[index] for index in second[name])


def test_seeds_differ_and_repeat(in_memory):
    dataset = in_memory([(str(index), [1]) for index in range(50)])
    first = split(dataset, seed=1)
    assert first["test"].tolist() == split(dataset, seed=1)["test"].tolist()
    assert first["test"].tolist() != split(dataset, seed=2)["test"].tolist()


def test_shares_and_classes_are_met(in_memory):
    rng = np.random.default_rng(0)
    images = []
    for patient in range(120):
        kind = [[], [1], [2]][rng.choice(3, p=[0.3, 0.6, 0.1])]
        images += [(f"p{patient}", kind)] * int(rng.integers(1, 5))
    dataset = in_memory(images)
    for seed in range(3):
        found = split(dataset, seed=seed)
        for name, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
            held = [images[index][1] for index in found[name]]
            assert len(held) / len(images) == pytest.approx(share, abs=0.02)
            for kind in ([], [1], [2]):
                whole = sum(each == kind for _, each in images)
                assert sum(each == kind for each in held) / whole == pytest.approx(share, abs=0.05)


def test_a_heavy_patient_goes_where_there_is_room(in_memory):
    images = [("heavy", [1])] * 80 + [("a", [1])] * 10 + [("b", [1])] * 10
    found = split(in_memory(images))
    assert [len(found[name]) for name in ("train", "val", "test")] == [80, 10, 10]


def test_the_only_patient_of_a_class_trains(in_memory):
    images = [("rare", [3]), ("also", [2])] + [(f"p{index}", [1]) for index in range(8)]
    for seed in range(10):
        assert {0, 1} <= set(split(in_memory(images), seed=seed)["train"].tolist())


def test_the_only_image_without_instances_trains(in_memory):
    """One image in a split of a tenth of the images would be ten times its share."""
    images = [("empty", [])] + [(f"p{index}", [1]) for index in range(14)]
    for seed in range(10):
        assert 0 in split(in_memory(images), seed=seed)["train"]


def test_classes_that_no_image_has_change_nothing(in_memory):
    rng = np.random.default_rng(0)
    images = [(f"p{patient}", [1] * int(rng.integers(4))) for patient in range(40) for _ in range(rng.integers(1, 5))]
    for seed in range(10):
        few, many = (split(in_memory(images, class_names=names), seed=seed) for names in (("a",), tuple("abcdefgh")))
        assert [few[name].tolist() for name in few] == [many[name].tolist() for name in many]


def test_rare_class_reaches_every_split_when_it_can(in_memory):
    images = [(f"r{index}", [2]) for index in range(10)] + [(f"p{index}", [1]) for index in range(90)]
    found = split(in_memory(images))
    assert all(any(images[index][1] == [2] for index in indices) for indices in found.values())


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5), (float("nan"), 0.1, 0.1)])
def test_shares_that_are_none(in_memory, shares):
    with pytest.raises(InputError, match="expected train above 0"):
        split(in_memory([(str(index), []) for index in range(9)]), shares)


def test_too_few_images_that_name_no_patient(in_memory):
    """Each counts as its own patient, but no patient is spoken of."""
    for count, text in ((0, "0 images"), (1, "1 image")):
        with pytest.raises(InputError, match=f"^{text}: expected at least 3, one for each of train, val, test"):
            split(in_memory([(f"{index}.png", []) for index in range(count)]))


@settings(max_examples=80)
@given(images=IMAGES, share=st.floats(0, 1), data=st.data())
def test_images_without_instances_make_up_no_more_than_their_share(in_memory, images, share, data):
    dataset = in_memory(images)
    indices = np.array(sorted(data.draw(st.sets(st.integers(0, len(images) - 1)))), np.int64)
    kept = subsample_negatives(dataset, indices, share)
    filled = [index for index in indices if images[index][1]]
    assert set(filled) <= set(kept.tolist()) <= set(indices.tolist())
    assert (np.diff(kept) > 0).all()
    empty, all_empty = len(kept) - len(filled), len(indices) - len(filled)
    # One more or one less would be farther from the share, unless there are no more.
    off = [abs(count - share * (count + len(filled))) for count in (empty - 1, empty, empty + 1)]
    assert off[1] <= off[0] + 1e-9 or empty == 0
    assert off[1] <= off[2] + 1e-9 or empty == all_empty


def test_the_seed_chooses_among_images_without_instances(in_memory):
    dataset = in_memory([("p", [1])] * 10 + [("p", [])] * 90)
    kept = [subsample_negatives(dataset, np.arange(100), 0.5, seed).tolist() for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]
    assert len(kept[0]) == 20


@settings(max_examples=100)
@given(images=IMAGES, folds=st.integers(2, 5), seed=st.integers(0, 3), data=st.data())
def test_folds_part_no_patient_and_no_group_and_hold_every_image_once(in_memory, images, folds, seed, data):
    dataset = in_memory(images)
    groups = np.array(data.draw(st.lists(st.integers(0, 40), min_size=len(images), max_size=len(images))))
    patients = {patient for patient, _ in images}
    try:
        found = folds_by_patient(dataset, folds, seed=seed, groups=groups)
    except InputError as error:
        assert f"expected at least {folds}, one for each of {folds} folds" in str(error)
        assert len(patients) < folds or len(set(groups.tolist())) < len(images)
        return
    assert len(found) == folds and all(map(len, found))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(images)))
    check_splits(dataset, {str(number): fold for number, fold in enumerate(found)}, groups)
    order = data.draw(st.permutations(range(len(images))))
    again = folds_by_patient(dataset.subset(order), folds, seed=seed, groups=groups[order])
    moved = [sorted(order[position] for position in fold) for fold in again]
    assert [{images[i][0] for i in fold} for fold in moved] == [{images[i][0] for i in fold} for fold in found]


def test_folds_are_alike(in_memory):
    rng = np.random.default_rng(0)
    images = [(str(rng.integers(60)), rng.integers(1, 4, rng.integers(0, 3)).tolist()) for _ in range(300)]
    dataset = in_memory(images)
    for fold in folds_by_patient(dataset, 5, seed=1):
        assert len(fold) == pytest.approx(60, abs=2)
        empty = [not images[index][1] for index in fold]
        assert np.mean(empty) == pytest.approx(np.mean([not ids for _, ids in images]), abs=0.06)
        for kind in (1, 2, 3):
            share = np.mean([kind in images[index][1] for index in fold])
            assert share == pytest.approx(np.mean([kind in ids for _, ids in images]), abs=0.06)


@pytest.mark.parametrize(
    ("stated", "groups", "expected", "told"),
    [
        (("train", "val", "test", "train"), None, ([0, 3], [1], [2]), "are used: train 2, val 1, test 1 images"),
        (("train", "val", "val", "train"), None, ([0, 3], [1, 2], []), "no test split, so results are reported on val"),
        (("train", "val", "test", "val"), None, None, "not used.*: patient 'a' is in train .* and in val"),
        (("train", "val", "test", "train"), (0, 1, 2, 1), None, "not used.*: group of near-duplicate images 1 is in"),
        (("train", "val", None, "train"), None, None, "not used.*: 1 image is in none, such as 2.png"),
        (("train", "test", "test", "train"), None, None, "not used.*: expected at least train and val"),
        (("train",) * 4, None, None, None),
        ((None,) * 4, None, None, None),
    ],
)
def test_splits_of_the_annotation_tool(in_memory, stated, groups, expected, told):
    """Images 0 and 3 are of one patient."""
    dataset = in_memory([("a", [1]), ("b", [1]), ("c", [1]), ("a", [1])])
    for record, name in zip(dataset.records, stated, strict=True):
        object.__setattr__(record, "split", name)
    splits, warnings = find_stated_splits(dataset, None if groups is None else np.array(groups))
    if expected is None:
        assert splits is None
    else:
        assert [splits[name].tolist() for name in ("train", "val", "test")] == list(expected)
    assert len(warnings) == (told is not None)
    assert told is None or re.search(told, warnings[0])


def test_ten_thousand_patients_are_split_in_no_time(in_memory):
    dataset = in_memory([(f"p{index:05d}", [1 + index % 2]) for index in range(10_000)])
    begun = time.process_time()
    found = split(dataset)
    # Quadratic it took eight seconds; of linear work this is a quarter of a second.
    assert time.process_time() - begun < 3
    assert [len(found[name]) for name in ("train", "val", "test")] == [8000, 1000, 1000]


def test_the_placement_is_that_of_the_first_version(in_memory):
    """Recorded splits must stay: these positions were found when `split_by_patient` was written."""
    rng = np.random.default_rng(5)
    images = [(f"p{rng.integers(0, 25)}", rng.integers(1, 4, rng.integers(0, 4)).tolist()) for _ in range(60)]
    found = split(in_memory(images), seed=3)
    assert found["val"].tolist() == [1, 2, 4, 5, 27, 47]
    assert found["test"].tolist() == [9, 25, 29, 39, 42, 43]
    fold = folds_by_patient(in_memory(images), 4, seed=3)[1]
    assert fold.tolist() == [8, 10, 14, 19, 21, 23, 26, 31, 34, 38, 41, 45, 46, 49, 55, 58]
