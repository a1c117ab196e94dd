"""The command itself, with a model of few weights that was never trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments.cli import main
from experiments.commands.predict import command
from mrcnn.config import ModelConfig

pytestmark = pytest.mark.usefixtures("eager")
ROOT = Path(__file__).parents[3]
TINY = {
    "class_names": ("iso", "hypo"), "image_size": 64, "channels": 1, "backbone": "small", "fpn_channels": 16,
    "head_width": 32, "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30,
    "max_detections": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    from mrcnn.models import MaskRCNN

    folder = tmp_path_factory.mktemp("predict")
    MaskRCNN(ModelConfig(**TINY)).save(folder / "tiny.keras")
    (folder / "in").mkdir()
    random = np.random.default_rng(0)
    for number, kind in enumerate((np.uint8, np.uint16, np.uint8)):
        pixels = random.integers(0, 255, (30, 40), dtype=kind)
        Image.fromarray(pixels).save(folder / "in" / f"{number}.png")
    return folder


def test_a_folder_is_predicted_and_a_second_call_has_nothing_to_do(place, monkeypatch, capsys):
    from mrcnn.data.io.images import read_image
    from mrcnn.models import load

    monkeypatch.chdir(place)
    words = ["predict", "tiny.keras", "in", "--output", "out", "--confidence", "0.2", "--write", "coco,mask"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "Classes iso, hypo; instances of a score of at least 0.2; inputs: 3" in printed.out
    assert f"Predicted: 3; in {place}/out. Research use only" in printed.out
    record = json.loads((place / "out/record.json").read_text())
    assert (record["confidence"], record["notice"]) == (0.2, "Research use only")
    expected = load(place / "tiny.keras").detect([read_image(place / "in" / f"{n}.png") for n in range(3)])
    for number, found in enumerate(expected):
        answer = json.loads((place / f"out/json/{number}.json").read_text())
        scores = [instance["score"] for instance in answer["instances"]]
        np.testing.assert_allclose(scores, found.above(0.2).scores, atol=1e-5)
    assert main(words) == 0
    assert f"Predicted: 0, complete before: 3; in {place}/out" in capsys.readouterr().out
    assert main([*words[:6], "0.3"]) == 2
    assert capsys.readouterr().err == (
        f"mrcnn: {place}/out: contains predictions with confidence=0.2, these have confidence=0.3; "
        "expected another --output, or --overwrite true\n"
    )


@pytest.mark.parametrize(("words", "shapes"), [([], {(80, 80), (30, 40)}), (["--tile", "64"], {(64, 64), (30, 40)})])
def test_larger_images_are_predicted_in_the_tiles_of_the_model_or_of_the_option(
    place, monkeypatch, tmp_path, words, shapes
):
    from mrcnn.models import MaskRCNN

    MaskRCNN(ModelConfig(**TINY, tile=80)).save(tmp_path / "tiles.keras")
    Image.fromarray(np.zeros((100, 170), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.chdir(tmp_path)
    shown, detect = set(), MaskRCNN._detect_whole

    def recorded(self, images, batch_size):
        shown.update(image.shape[:2] for image in images)
        return detect(self, images, batch_size)

    monkeypatch.setattr(MaskRCNN, "_detect_whole", recorded)
    assert main(["predict", "tiles.keras", "large.png", str(place / "in/0.png"), "--output", "out", *words]) == 0
    assert shown == shapes


def test_an_unreadable_image_is_reported_at_the_end(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    (place / "bad.png").write_bytes(b"no picture")
    assert main(["predict", "tiny.keras", "bad.png", "in/0.png", "--output", "other"]) == 2
    printed = capsys.readouterr()
    assert "Predicted: 1" in printed.out
    assert "bad.png: expected a readable PNG" in printed.err
    assert printed.err.endswith("mrcnn: inputs that could not be predicted: 1\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiny.keras"], "INPUT...: missing; usage: mrcnn predict --output FOLDER [OPTIONS] MODEL INPUT..."),
        (["tiny.keras", "in"], "--output: missing; expected FOLDER"),
        (["gone.keras", "in", "--output", "o"], "model=gone.keras: expected a .keras file that is there"),
        (["tiny.keras", "gone", "--output", "o"], "gone: no such file or folder"),
        (["tiny.keras", "in", "--output", "o", "--colour", "red"], "--colour: no such option; expected --output"),
        (["tiny.keras", "in", "--output", "o", "--write", "jpg"], "--write jpg: expected some of coco"),
        (["tiny.keras", "in", "--output", "o", "--write", "dicom_seg"], "--write dicom_seg: 0.png: needs DICOM"),
        (["tiny.keras", "in", "--output", "o", "--confidence", "2"], "--confidence 2: expected a number from 0 to 1"),
        (["tiny.keras", "in", "--output", "o", "--spacing-mm", "0"], "--spacing_mm 0: expected the size of a pixel"),
        (["tiny.keras", "in", "--output", "o", "--spacing-mm", "1,2,3"], "--spacing_mm 1,2,3: expected"),
        (["tiny.keras", "in", "--output", "o", "--tile", "12"], "--tile 12: expected the side of a tile, 64 to 8192"),
        (["tiny.keras", "in", "--output", "o", "--tile", "²²²"], "--tile ²²²: expected the side of a tile"),
        (["tiny.keras", "in", "--output", "o", "--modalities", "pd"], "--modalities pd: expected some of flair"),
        (["tiny.keras", "in", "--output", "o", "--overwrite", "yes please"], "--overwrite yes please: expected true"),
        (["tiny.keras", "file:///etc/passwd", "--output", "o"], "file:///etc/passwd: expected http:// or https://"),
    ],
)
def test_an_error_is_one_line_before_the_work(place, monkeypatch, capsys, words, message):
    monkeypatch.chdir(place)
    assert main(["predict", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (place / "o").exists()


def test_options_are_valid_before_among_and_after_the_inputs(place, monkeypatch):
    monkeypatch.chdir(place)
    found = command.parse(
        ["--spacing-mm", "0.1,0.2", "tiny.keras", "--output=o", "a.png", "b.png", "--write", "[coco, splash]"]
    )
    assert (found.inputs, found.spacing_mm, found.output) == (("a.png", "b.png"), (0.1, 0.2), place / "o")
    assert (found.forms, found.explicit_forms) == (("coco", "splash"), True)
    assert command.parse(["tiny.keras", "a.png", "--output", "o", "--spacing_mm", "0.1"]).spacing_mm == (0.1, 0.1)


def test_bad_words_load_no_library(place):
    code = (
        "import sys; from experiments.cli import main\n"
        f"main(['predict', {str(place / 'tiny.keras')!r}, 'gone.png', '--output', 'o'])\n"
        "assert not {'tensorflow', 'keras', 'mlflow', 'highdicom', 'av'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_project_has_the_command():
    entry = yaml.safe_load((ROOT / "mlproject").read_text(encoding="utf-8"))["entry_points"]["predict"]
    assert entry["command"] == "python -m experiments.commands.predict {model} {input} --output {output}"
    assert list(entry["parameters"]) == ["model", "input", "output"]
