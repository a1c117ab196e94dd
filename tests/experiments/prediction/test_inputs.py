import pytest

from experiments.prediction.inputs import find_inputs
from experiments.prediction.output_formats import check_formats, item_formats, unsupported_formats
from mrcnn.errors import InputError


@pytest.fixture
def find(tmp_path):
    def find(*words, fetch=None):
        return find_inputs(words, base=tmp_path, output=tmp_path / "out", fetch=fetch)

    return find


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def kinds(found):
    return [(item.name, item.kind) for item in found.items]


def test_a_folder_is_sorted_into_what_it_holds(find, tmp_path):
    make(tmp_path, "in/b.PNG", "in/a/c.tif", "in/film.mp4", "in/notes.txt", "in/.hidden.png", "in/x.nii.gz")
    found = find("in")
    assert kinds(found) == [("a/c", "image"), ("b", "image"), ("film", "video"), ("x", "volume")]
    assert found.skipped_line() == "files of no kind that is read: notes.txt"


def test_cases_by_their_names_and_nothing_else_in_their_folders(find, tmp_path):
    names = ("flair", "t1ce", "seg", "brainmask")
    make(tmp_path, *(f"in/{case}/{case}_{name}.nii.gz" for case in ("p1", "p2") for name in names))
    found = find("in")
    assert kinds(found) == [("p1", "case"), ("p2", "case")]
    assert [(item.modalities, [file.name for file in item.files]) for item in found.items[:1]] == [
        (("flair", "t1ce"), ["p1_flair.nii.gz", "p1_t1ce.nii.gz"])
    ]
    assert found.skipped_line() == (
        "4 NIfTI files beside a case: p1/p1_brainmask.nii.gz, p1/p1_seg.nii.gz, p2/p2_brainmask.nii.gz and 1 more"
    )
    assert kinds(find("in/p1")) == [("p1", "case")]
    assert kinds(find("in/p1/p1_flair.nii.gz")) == [("p1_flair", "volume")]


def test_patterns_files_and_folders_give_each_thing_once(find, tmp_path):
    make(tmp_path, "in/1.png", "in/2.png", "in/deep/3.png")
    assert kinds(find("in/*.png", "in/1.png")) == [("1", "image"), ("2", "image")]
    assert kinds(find("in/**/*.png")) == [("1", "image"), ("2", "image"), ("3", "image")]
    assert kinds(find("in/[12].png")) == [("1", "image"), ("2", "image")]
    make(tmp_path, "in/[x].png")  # a name that looks like a pattern
    assert kinds(find("in/[x].png")) == [("[x]", "image")]


def test_names_that_would_meet_are_kept_apart(find, tmp_path):
    make(tmp_path, "in/a.png", "in/a.jpg", "in/b.png", "other/b.png")
    assert kinds(find("in")) == [("a_jpg", "image"), ("a_png", "image"), ("b", "image")]
    with pytest.raises(InputError, match=r"b_png: two inputs have this name"):
        find("in", "other")


def test_predictions_are_no_inputs(find, tmp_path):
    make(tmp_path, "1.png", "out/overlay/1.png")
    assert kinds(find(".")) == [("1", "image")]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("gone.png", "gone.png: no such file or folder"),
        ("gone/*.png", r"gone/\*.png: no file matches this pattern"),
        ("empty", "empty: contains nothing to predict"),
        ("ftp://host/a.png", "ftp://host/a.png: expected http:// or https://"),
        ("file:///etc/passwd", "file:///etc/passwd: expected http:// or https://"),
        ("ftp://me:secret@host/a.png?key=1", "^ftp://host/a.png: expected"),
    ],
)
def test_what_is_not_there_is_told(find, tmp_path, word, told):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=told):
        find(word)


def test_a_fetched_file_is_an_item_called_as_its_address_without_secrets(find, tmp_path):
    def fetch(address):
        assert address == "https://host/scans/a.png?key=secret"
        make(tmp_path, "fetched/a.png")
        return tmp_path / "fetched/a.png"

    (item,) = find("https://host/scans/a.png?key=secret", fetch=fetch).items
    assert (item.name, item.kind, item.source) == ("a", "image", "https://host/scans/a.png")


def test_one_address_that_fails_loses_no_other_input(find, tmp_path):
    make(tmp_path, "1.png")

    def fetch(address):
        raise InputError("no")

    found = find("https://host/a.png", "1.png", fetch=fetch)
    assert (kinds(found), found.problems) == ([("1", "image")], ["no"])


def test_what_an_input_cannot_carry_is_told_before(find, tmp_path):
    make(tmp_path, "in/1.png", "in/2.nii")
    items = find("in").items
    assert unsupported_formats(("coco", "mask", "overlay"), items) == [
        "mask needs a single image (nifti or dicom_seg hold volumes): not written for 1 of 2 inputs, volume (1)"
    ]
    with pytest.raises(
        InputError, match=r"--write dicom_seg: 1.png: needs DICOM.*; the inputs are image \(1\), volume"
    ):
        unsupported_formats(("dicom_seg",), items)
    with pytest.raises(InputError, match="--write png: expected some of coco, findings"):
        check_formats(["png"])
    assert item_formats(("coco", "mask", "nifti", "overlay"), "image") == {"json", "mask", "overlay"}
