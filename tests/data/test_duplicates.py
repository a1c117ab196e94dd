"""Copies are found however they were turned or recolored, and pictures of one kind stay apart."""

import io
from itertools import combinations
from threading import Event

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from scipy.sparse.csgraph import connected_components

from mrcnn.data import dataset as dataset_module
from mrcnn.data import find_duplicates, read_dataset, split_by_patient
from mrcnn.data.duplicates import SIDE, group_duplicates, thumbnail
from mrcnn.data.fingerprint import fingerprint
from mrcnn.errors import InputError


def scene(seed, size=(120, 160)):
    """A picture of blobs and texture, the same for the same seed."""
    rng = np.random.default_rng(seed)
    noise = sum(gaussian_filter(rng.standard_normal(size), sigma) * sigma for sigma in (2, 5, 12))
    return np.rint(255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file))


COPIES = {
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned": np.rot90,
    "turned and mirrored": lambda image: np.rot90(image)[::-1],
    "smaller": lambda image: np.asarray(Image.fromarray(image).resize((100, 75))),
    "compressed": jpeg,
    "brighter": lambda image: np.clip(image * 0.6 + 70, 0, 255).astype(np.uint8),
    "gamma": lambda image: np.rint(255 * (image / 255) ** 1.3).astype(np.uint8),
    "blurred": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5))),
    "sixteen bits": lambda image: image.astype(np.float32) * 257,
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_changed_copy_is_found_among_others(change):
    pictures = [scene(seed) for seed in range(8)]
    pictures.append(change(pictures[3]))
    groups = group_duplicates(np.stack([thumbnail(picture[..., None]) for picture in pictures]))
    assert groups[8] == groups[3]
    assert len(set(groups[:8].tolist())) == 8


def test_color_counts_as_its_gray():
    gray = scene(1)[..., None]
    np.testing.assert_array_equal(thumbnail(gray), thumbnail(np.repeat(gray, 3, axis=2)))
    assert thumbnail(gray).shape == (SIDE, SIDE) and thumbnail(gray).min() == 0 and thumbnail(gray).max() == 255
    assert thumbnail(np.repeat(gray, 5, axis=2)).shape == (SIDE, SIDE)


def test_even_pictures_are_like_no_other():
    thumbnails = np.stack([thumbnail(np.full((50, 60, 1), level, np.uint8)) for level in (0, 0, 90, 255)])
    assert len(set(group_duplicates(thumbnails).tolist())) == 4
    assert group_duplicates(np.zeros((0, SIDE, SIDE), np.uint8)).shape == (0,)


def all_pairs(thumbnails):
    """The rule of two pictures applied to every pair, in all eight positions; groups numbered by their first image."""

    def describe(pictures):
        terms = dctn(pictures.astype(np.float32), axes=(1, 2), norm="ortho")
        slow = terms[:, :8, :8].reshape(-1, 64).round(1)
        frequency = np.add.outer(np.arange(SIDE), np.arange(SIDE))
        parts = [terms[:, frequency >= least] for least in (1, 8)]
        units = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-6) for part in parts]
        return slow > np.median(slow[:, 1:], axis=1, keepdims=True), *units

    count = len(thumbnails)
    links, first = np.zeros((count, count), bool), describe(thumbnails)
    for quarters in range(4):
        for step in (1, -1):
            turned = np.ascontiguousarray(np.rot90(thumbnails, quarters, axes=(1, 2))[:, :, ::step])
            second = describe(turned)
            alike = (first[0][:, None] != second[0][None]).sum(axis=2) <= 16
            for one, other in zip(first[1:], second[1:], strict=True):
                alike &= one @ other.T >= 0.9
            links |= alike
    return connected_components(links, directed=False)[1]


def pictures(kind, count, rng):
    """Thumbnails that are hard to group: of a kind that a quick test cannot tell apart, or at the limit of the rule."""

    def smooth(number, sigma):
        made = np.stack([gaussian_filter(rng.standard_normal((SIDE, SIDE)), sigma) for _ in range(number)])
        return made / made.std(axis=(1, 2), keepdims=True)

    made = {
        "noise": lambda: rng.standard_normal((count, SIDE, SIDE)),
        "same pose": lambda: 8 * smooth(1, 6) + smooth(count, 1.5),
        "near the limit": lambda: np.repeat(smooth(count // 10, 2), 10, axis=0)
        + rng.uniform(0, 0.5, (count, 1, 1)) * rng.standard_normal((count, SIDE, SIDE)),
        "turned": lambda: np.stack(
            [np.rot90(each, number % 4)[:: (-1) ** (number // 4)] for number, each in
             enumerate(np.repeat(smooth(count // 10, 2), 10, axis=0) + 0.2 * smooth(count, 1))]
        ),
        "all alike": lambda: smooth(1, 3) + 0.01 * rng.standard_normal((count, SIDE, SIDE)),
        "stripes": lambda: np.repeat(rng.integers(0, 2, (count, SIDE, 1)), SIDE, axis=2).astype(float),
        "few levels": lambda: np.kron(rng.integers(0, 2, (count, 2, 2)), np.ones((1, 16, 16))),
    }[kind]()  # fmt: skip
    made -= made.min(axis=(1, 2), keepdims=True)
    return np.rint(255 * made / np.maximum(made.max(axis=(1, 2), keepdims=True), 1e-6)).astype(np.uint8)


@pytest.mark.parametrize(
    "kind", ["noise", "same pose", "near the limit", "turned", "all alike", "stripes", "few levels"]
)
def test_no_pair_is_missed(kind, monkeypatch):
    thumbnails = pictures(kind, 120, np.random.default_rng(0))
    np.testing.assert_array_equal(group_duplicates(thumbnails), all_pairs(thumbnails))
    # The size of what is compared, or held, at once makes no difference.
    monkeypatch.setattr("mrcnn.data.duplicates._TILE", (3, 40))
    monkeypatch.setattr("mrcnn.data.duplicates._MOST_PAIRS", 7)
    np.testing.assert_array_equal(group_duplicates(thumbnails), all_pairs(thumbnails))


def test_groups_are_found_once(doubled, tmp_path, monkeypatch):
    first = find_duplicates(doubled, tmp_path / "cache")
    monkeypatch.setattr("mrcnn.data.duplicates.group_duplicates", lambda thumbnails: pytest.fail("grouped again"))
    np.testing.assert_array_equal(find_duplicates(doubled, tmp_path / "cache"), first)


def test_only_a_new_image_is_opened(doubled, tmp_path, monkeypatch):
    find_duplicates(doubled.subset(range(8)), tmp_path / "cache")
    opened = []
    read = dataset_module.read_image
    monkeypatch.setattr(dataset_module, "read_image", lambda path: opened.append(path.name) or read(path))
    np.testing.assert_array_equal(find_duplicates(doubled, tmp_path / "cache"), find_duplicates(doubled))
    assert opened[:1] == ["i.png"] and len(opened) == 1 + 9


def test_a_damaged_cache_is_made_again(doubled, tmp_path):
    first = find_duplicates(doubled, tmp_path / "cache")
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    np.testing.assert_array_equal(find_duplicates(doubled, tmp_path / "cache"), first)


def test_phantoms_of_many_patients_stay_apart(phantom_folder):
    dataset = read_dataset(phantom_folder)
    groups = group_duplicates(np.stack([thumbnail(sample.image) for sample in dataset]))
    patients = [record.patient_id for record in dataset.records]
    assert len(set(patients)) > 5
    for first, second in combinations(range(len(dataset)), 2):
        assert groups[first] != groups[second] or patients[first] == patients[second]


def test_blocks_do_not_matter(monkeypatch):
    pictures = [scene(seed % 11) if seed < 11 else scene(seed % 11)[::-1] for seed in range(30)]
    thumbnails = np.stack([thumbnail(picture[..., None]) for picture in pictures])
    whole = group_duplicates(thumbnails)
    monkeypatch.setattr("mrcnn.data.duplicates._BLOCK", 7)
    np.testing.assert_array_equal(group_duplicates(thumbnails), whole)
    assert [whole[index] for index in range(11, 30)] == [whole[index % 11] for index in range(11, 30)]


@pytest.fixture
def doubled(tmp_path, coco, write_coco):
    """Nine images of a patient each, of which c is a mirrored copy of a, and e of b."""
    names = "abcdefghi"
    coco["images"] = [{"id": key, "file_name": f"{name}.png", "height": 60, "width": 80, "patient_id": name}
                      for key, name in enumerate(names)]  # fmt: skip
    coco["annotations"] = []
    folder = write_coco(coco, tmp_path / "doubled")
    for seed, name in enumerate(names):
        Image.fromarray(scene(seed, (60, 80))).save(folder / "images" / f"{name}.png")
    for copy, original in (("c", 0), ("e", 1)):
        Image.fromarray(scene(original, (60, 80))[:, ::-1]).save(folder / "images" / f"{copy}.png")
    return read_dataset(folder)


def test_copies_stay_in_one_split_and_are_told(doubled):
    groups = find_duplicates(doubled)
    assert groups[0] == groups[2] and groups[1] == groups[4] and len(set(groups.tolist())) == 7
    for seed in range(10):
        splits = split_by_patient(doubled, train=0.5, val=0.25, test=0.25, seed=seed, groups=groups)
        of = {int(index): name for name, indices in splits.items() for index in indices}
        assert of[0] == of[2] and of[1] == of[4]
    found = fingerprint(doubled, splits, groups)
    assert (found.duplicates.groups, found.duplicates.images, found.duplicates.across_patients) == (2, 4, 2)
    assert any("4 of 9 images are nearly the same" in line and "2 of them join patients" in line
               for line in found.warnings)  # fmt: skip
    with pytest.raises(InputError, match=r"group of near-duplicate images \d+ is in train \(.*\) and in val"):
        fingerprint(doubled, {"train": [0, 1], "val": [2], "test": []}, groups)


def test_patients_and_groups_chain(in_memory):
    dataset = in_memory([("a", [1]), ("a", [1]), ("b", [1]), ("b", []), ("c", []), ("d", []), ("e", [])])
    groups = np.array([0, 1, 1, 2, 2, 3, 4])  # a-b through the group 1, b-c through the group 2
    for seed in range(5):
        splits = split_by_patient(dataset, train=0.4, val=0.3, test=0.3, seed=seed, groups=groups)
        assert any({0, 1, 2, 3, 4} <= set(indices.tolist()) for indices in splits.values())
    with pytest.raises(InputError, match="1 group of patients with near-duplicate images: expected at least 3"):
        split_by_patient(dataset, groups=np.zeros(7, int))


def test_thumbnails_are_made_once_whatever_the_order(doubled, tmp_path, monkeypatch):
    first = find_duplicates(doubled, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("thumbnails-*"))) == 1
    order = [4, 2, 8, 0, 1, 3, 5, 7, 6]
    monkeypatch.setattr("mrcnn.data.dataset.read_image", lambda path: pytest.fail("opened again"))
    again = find_duplicates(doubled.subset(order), tmp_path / "cache")
    same = first[order][:, None] == first[order][None]
    np.testing.assert_array_equal(again[:, None] == again[None], same)


def test_all_images_that_cannot_be_read_are_told(doubled, monkeypatch):
    for index in (1, 5):
        path = doubled.records[index].path
        path.write_bytes(path.read_bytes()[:900])
    read, f_was_read = dataset_module.read_image, Event()

    def f_before_b(path):
        if path.name == "b.png":
            f_was_read.wait(5)
        try:
            return read(path)
        finally:
            if path.name == "f.png":
                f_was_read.set()

    monkeypatch.setattr(dataset_module, "read_image", f_before_b)
    with pytest.raises(InputError, match=r"2 problems\n.*b\.png: expected a readable.*\n.*f\.png: expected a readable"):
        find_duplicates(doubled)


def test_real_brain_slices(shared_data):
    dataset = read_dataset(shared_data / "brain_tumor" / "coco")
    groups = find_duplicates(dataset)
    found = fingerprint(dataset, split_by_patient(dataset, groups=groups), groups).duplicates
    # The set was augmented before it was published: mirrored and recolored copies of about 90 slices.
    assert 85 <= found.groups <= 95 and 660 <= found.images <= 701
