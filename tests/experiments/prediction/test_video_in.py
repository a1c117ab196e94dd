"""A tiny video of phantom frames, in and out."""

import json
from fractions import Fraction

import numpy as np
import pytest

from mrcnn.data.io.video import VideoWriter, read_frames, read_video_header
from mrcnn.errors import InputError

av = pytest.importorskip("av")


def frame(number):
    image = np.zeros((97, 131, 3), np.uint8)  # odd sides, which the codec does not take
    image[30:70, 20 + 4 * number : 60 + 4 * number] = 230
    return image


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    with VideoWriter(path, Fraction(12)) as video:
        for number in range(10):
            video.write(frame(number))
    return path


def test_frames_come_back_in_order(film):
    header = read_video_header(film)
    assert (header.height, header.width, float(header.rate), header.count) == (98, 132, 12.0, 10)
    for number, image in enumerate(read_frames(film)):
        assert np.abs(image[:97, :131].astype(int) - frame(number)).mean() < 2
    assert number == 9


def test_a_video_in_gives_videos_out(predicted, film):
    report, record = predicted(film, forms=("overlay", "splash", "coco"))
    assert report.problems == []
    frames = json.loads((record.folder / "json/film.json").read_text())["frames"]
    assert [each["frame"] for each in frames] == list(range(10))
    for number, each in enumerate(frames):
        (bright,) = [one for one in each["instances"] if one["class"] == "bright"]
        np.testing.assert_allclose(bright["bbox"], [20 + 4 * number, 30, 40, 40], atol=1)
    for form in ("overlay", "splash"):
        header = read_video_header(record.folder / form / "film.mp4")
        assert (header.count, float(header.rate), header.width) == (10, 12.0, 512)
    # Inside an instance gray takes its class's color, outside it stays gray.
    *_, last = read_frames(record.folder / "splash/film.mp4")
    scale = 512 / 132
    inside = last[round(50 * scale), round((40 + 36) * scale)].astype(int)
    outside = last[round(10 * scale), round(10 * scale)].astype(int)
    assert np.ptp(inside) > 60 and np.ptp(outside) < 12
    assert predicted(film, forms=("overlay", "splash", "coco"))[0].skipped == 1


def test_a_video_cut_short_leaves_nothing_behind_and_loses_no_other(predicted, film, pictures, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(film.read_bytes()[:500])
    (tmp_path / "text.avi").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    report, record = predicted(tmp_path / "bad.mp4", tmp_path / "text.avi", pictures, forms=("overlay",))
    assert report.predicted == 6 and len(report.problems) == 2
    assert all("expected a readable video" in problem and "\n" not in problem for problem in report.problems)
    assert not list(record.folder.rglob("*bad*")) and not list(record.folder.rglob(".part-*"))


def test_what_is_missing_is_told(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"gone\.mp4: no such file"):
        read_video_header(tmp_path / "gone.mp4")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(InputError, match=r"videos need one more package: pip install 'medmrcnn\[video\]'"):
        read_video_header(tmp_path / "gone.mp4")
