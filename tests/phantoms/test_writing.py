import json
import shutil

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.sample import Sample
from mrcnn.errors import InputError
from mrcnn.phantoms import PHANTOM_KINDS, PhantomKind, thyroid, write_dataset, writing


def dots(images, seed):
    """Quick phantoms: one square, whose gray is the seed."""
    for index in range(images):
        mask = np.zeros((1, 20, 30), bool)
        mask[0, 5:12, 6:20] = True
        gray = np.full((20, 30, 1), seed, np.uint8)
        yield Sample(gray, mask, np.array([1], np.int32), f"p{index}", f"{index}.png", (0.1, 0.1))


def use(monkeypatch, make, version=1):
    monkeypatch.setattr(writing, "PHANTOM_KINDS", {"dots": PhantomKind(make, ("dot",), "dots", version)})


def snapshot(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_reader_gets_back_what_was_made(tmp_path):
    folder = write_dataset("thyroid", tmp_path / "set", images=12, seed=4)
    dataset = read_dataset(folder)
    assert dataset.class_names == ("iso", "hypo") and len(dataset) == 12 and not dataset.warnings
    for found, made in zip((dataset[index] for index in range(12)), thyroid.make_images(12, 4), strict=True):
        np.testing.assert_array_equal(found.image, made.image)
        np.testing.assert_array_equal(found.class_ids, made.class_ids)
        assert (found.patient_id, found.spacing_mm) == (made.patient_id, made.spacing_mm)
        for a, b in zip(found.masks, made.masks, strict=True):
            assert (a & b).sum() / (a | b).sum() >= 0.95
    assert "phantoms" in json.loads((folder / "annotations.json").read_text())["info"]["description"]
    stamp = json.loads((folder / "phantom.json").read_text())
    assert stamp == {"kind": "thyroid", "images": 12, "seed": 4, "version": thyroid.VERSION, "files": 13}


def test_a_complete_set_is_used_again_and_nothing_else_is_left_behind(tmp_path, monkeypatch):
    use(monkeypatch, dots)
    folder = write_dataset("dots", tmp_path / "deep" / "set", images=3, seed=9)
    before = snapshot(folder)
    assert write_dataset("dots", folder, images=3, seed=9) == folder
    assert snapshot(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("change", [{"seed": 10}, {"images": 4}, {"version": 2}])
def test_another_seed_number_or_version_replaces_the_set(tmp_path, monkeypatch, change):
    use(monkeypatch, dots)
    wanted = {"images": 3, "seed": 9}
    write_dataset("dots", tmp_path / "set", **wanted)
    use(monkeypatch, dots, change.pop("version", 1))
    wanted |= change
    write_dataset("dots", tmp_path / "set", **wanted)
    dataset = read_dataset(tmp_path / "set")
    assert len(dataset) == wanted["images"] and dataset[0].image[0, 0, 0] == wanted["seed"]


@pytest.mark.parametrize("damage", ["images/1.png", "annotations.json", "phantom.json"])
def test_a_damaged_set_is_made_again(tmp_path, monkeypatch, damage):
    use(monkeypatch, dots)
    folder = write_dataset("dots", tmp_path / "set", images=3, seed=9)
    if damage == "phantom.json":
        (folder / damage).write_text("{")
    else:
        (folder / damage).unlink()
    write_dataset("dots", folder, images=3, seed=9)
    assert len(read_dataset(folder)) == 3


def test_a_failure_half_way_leaves_what_was_there(tmp_path, monkeypatch):
    use(monkeypatch, dots)
    folder = write_dataset("dots", tmp_path / "set", images=3, seed=9)
    before = snapshot(folder)

    def failing(images, seed):
        yield from dots(1, seed)
        raise RuntimeError("no more")

    use(monkeypatch, failing)
    with pytest.raises(RuntimeError, match="no more"):
        write_dataset("dots", folder, images=5, seed=9)
    with pytest.raises(RuntimeError, match="no more"):
        write_dataset("dots", tmp_path / "new", images=5, seed=9)
    assert snapshot(folder) == before and [path.name for path in tmp_path.iterdir()] == ["set"]


def test_of_two_processes_that_write_the_same_set_one_wins(tmp_path, monkeypatch):
    use(monkeypatch, dots)
    first = write_dataset("dots", tmp_path / "first", images=3, seed=9)

    def overtaken(images, seed):
        yield from dots(images, seed)
        shutil.copytree(first, tmp_path / "set")  # meanwhile the other process is done

    use(monkeypatch, overtaken)
    write_dataset("dots", tmp_path / "set", images=3, seed=9)
    assert len(read_dataset(tmp_path / "set")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"first", "set"}


def test_what_is_no_phantom_is_never_overwritten(tmp_path, monkeypatch):
    use(monkeypatch, dots)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match=r"mine: holds something else"):
        write_dataset("dots", tmp_path / "mine", images=3, seed=9)
    with pytest.raises(InputError, match=r"notes.txt: holds something else"):
        write_dataset("dots", tmp_path / "mine" / "notes.txt", images=3, seed=9)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    (tmp_path / "empty").mkdir()
    assert len(read_dataset(write_dataset("dots", tmp_path / "empty", images=3, seed=9))) == 3


@pytest.mark.parametrize(
    ("kind", "images", "seed", "message"),
    [
        ("liver", 3, 0, "'liver': expected one of brain_tumor, brats, lgg, lung, thyroid"),
        ("thyroid", 0, 0, "images=0"),
        ("thyroid", 3, -1, "seed=-1"),
    ],
)
def test_bad_requests_are_named(tmp_path, kind, images, seed, message):
    with pytest.raises(InputError, match=message):
        write_dataset(kind, tmp_path / "set", images=images, seed=seed)
    assert not list(tmp_path.iterdir())


def test_kinds_state_their_classes():
    assert PHANTOM_KINDS["thyroid"].class_names == ("iso", "hypo")
