"""COCO files whose names lead elsewhere: nothing outside is opened, and the refusal is a line."""

import json
import os

import pytest

from mrcnn.data import read_dataset
from mrcnn.errors import InputError


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../../../../../../etc/passwd", "images/../../../etc/passwd", "..\\..\\..\\etc\\passwd",
        "http://127.0.0.1:9/a.png", "https://host/?d=../../../etc/passwd", "file:///etc/passwd", "a\0.png", "", ".",
        "\\\\server\\share\\x.png", "~/.ssh/id_rsa", "$HOME/x.png", "%2e%2e%2fpasswd", "..", "/", "x" * 100_000,
        "../" * 5000 + "etc/passwd",
    ],
)  # fmt: skip
def test_a_name_that_leads_out_of_the_folder(coco, write_coco, monkeypatch, name):
    folder = write_coco(coco)
    coco["images"][0]["file_name"] = name
    (folder / "annotations.json").write_text(json.dumps(coco))
    opened = []
    true = os.open

    def watched(path, *arguments, **options):
        opened.append(os.fspath(path) if not isinstance(path, int) else path)
        return true(path, *arguments, **options)

    monkeypatch.setattr(os, "open", watched)
    with pytest.raises(InputError) as error:
        read_dataset(folder).problems.raise_if_any()
    assert "annotations.json" in str(error.value) and "root:" not in str(error.value)
    assert not any("passwd" in str(path) for path in opened)


def test_a_link_in_the_folder_is_followed_and_must_be_an_image(coco, write_coco):
    folder = write_coco(coco)
    image = folder / "images" / coco["images"][0]["file_name"]
    image.unlink()
    image.symlink_to("/etc/passwd")
    with pytest.raises(InputError) as error:
        read_dataset(folder).problems.raise_if_any()
    assert "expected a readable PNG" in str(error.value) and "root:" not in str(error.value)
    image.unlink()
    image.symlink_to(image.name)  # itself
    with pytest.raises(InputError, match="is neither in"):
        read_dataset(folder).problems.raise_if_any()
    image.unlink()
    os.mkfifo(image)  # would wait for ever
    with pytest.raises(InputError, match="is neither in"):
        read_dataset(folder).problems.raise_if_any()
