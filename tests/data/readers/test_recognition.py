"""What a data set that no reader recognizes is told to lack."""

import os

import pytest

from mrcnn.data import read_dataset
from mrcnn.errors import InputError


def explain(folder, *files):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(InputError) as caught:
        read_dataset(folder)
    return str(caught.value).split("\n")


def test_the_tree_and_the_nearest_forms_are_shown(tmp_path):
    lines = explain(tmp_path, "images/train/a.jpg", "images/train/b.jpg", "labels/train/a.txt", "notes.md", ".hidden")
    assert lines[0].startswith(
        f"{tmp_path}: no known form of annotations is there; expected one of aperio, cheng, coco, "
    )
    assert lines[1:5] == ["  it holds:", "    images/train/: 2 .jpg", "    labels/train/: 1 .txt", "    ./: 1 .md"]
    assert lines[5] == "  yolo would need: data.yaml or classes.txt with the names of the classes"
    assert len(lines) == 9


def test_contents_count_too(tmp_path):
    lines = explain(tmp_path, "a.png", "a.json")
    assert (
        lines[3:6]
        == [
            "  coco would need: its lists images, annotations and categories",
            "  via would need: its regions (VIA 2) or view (VIA 3)",
            "  labelme would need: its shapes and imagePath",
        ]
        or "  labelme would need: another layout" in lines
    )


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("Fold 1/images.npy", "images in .npy files are not read; save each as PNG or TIFF"),
        ("Case00.mhd", "volumes in .mhd files are not read; convert them to NIfTI (.nii.gz)"),
        ("a.svs", "slides in .svs files are not read; save their tiles as PNG or TIFF"),
        ("set.zip", "archives in .zip files are not read; unpack them first"),
    ],
)
def test_files_that_no_reader_reads_have_a_remedy(tmp_path, name, remedy):
    assert f"  {remedy}" in explain(tmp_path, name)


def test_large_trees_archives_and_odd_names(tmp_path):
    lines = explain(tmp_path, *(f"{number:02}/a.dat" for number in range(20)))
    assert lines[2] == "    00/: 1 .dat" and lines[9] == "    … and 13 more folders"
    assert len(lines) == 11
    with pytest.raises(InputError, match="unpack it first"):
        (tmp_path / "set.zip").write_bytes(b"PK")
        read_dataset(tmp_path / "set.zip")
    (tmp_path / "odd").mkdir()
    open(os.fsencode(tmp_path / "odd") + b"/\xff\n.png", "wb").close()
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path / "odd")
    str(caught.value).encode("utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="it holds no files"):
        read_dataset(tmp_path / "empty")
