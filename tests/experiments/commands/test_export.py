from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments.cli import main
from experiments.commands.export import _center
from mrcnn.config import ModelConfig

ROOT = Path(__file__).parents[3]
TINY = {
    "class_names": ("iso", "hypo"), "image_size": 64, "backbone": "small", "fpn_channels": 16, "head_width": 32,
    "mask_channels": 16, "mask_convolutions": 1, "proposals_per_level": 20, "proposals": 30, "max_detections": 10,
}  # fmt: skip


def test_a_keras_file_becomes_onnx(tmp_path, monkeypatch, capsys):
    ort = pytest.importorskip("onnxruntime")
    from mrcnn.models import MaskRCNN

    MaskRCNN(ModelConfig(**TINY, tile=96)).save(tmp_path / "tiny.keras")
    monkeypatch.chdir(tmp_path)
    assert main(["export", "tiny.keras", "--to", "onnx"]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith(
        f"Wrote {tmp_path}/mask_rcnn.onnx: classes iso, hypo; instances of a score of at least 0.05. "
        "Research use only: not a medical device.\n"
    )
    assert "trained on tiles of 96×96 pixels" in printed.err and printed.err.count("\n") == 1
    session = ort.InferenceSession("mask_rcnn.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["tile"] == "96"
    found = session.run(["count"], {"images": np.zeros((1, 30, 40, 3), np.float32)})
    assert found[0].shape == (1,)
    assert main(["export", "tiny.keras", "--to", "onnx"]) == 2
    assert "exists already" in capsys.readouterr().err
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(70):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 50), np.uint8)).save(
            folder / f"{number}.png"
        )
    assert main(["export", "tiny.keras", "--to", "onnx_int8", "--calibration", str(folder)]) == 0
    printed = capsys.readouterr().out
    # Of 70 images every second calibrates or measures, and of these every fourth measures.
    assert f"Wrote {tmp_path}/mask_rcnn_int8.onnx: classes iso, hypo" in printed
    assert "Mask IoU with the export in float32 on 9 images: 0." in printed


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--to", "onnx"], "MODEL: missing; usage: mrcnn export --to FORM [OPTIONS] MODEL"),
        (["champion.keras", "--to", "onnx"], "model=champion.keras: expected a .keras file that is there, a run's id"),
        (["coco", "--to", "onnx"], "model=coco: expected a .keras file that is there"),
        (["last"], "--to: missing; expected saved_model or onnx or onnx_int8"),
        (["last", "--to", "tflite"], "--to tflite: expected saved_model or onnx or onnx_int8"),
        (
            ["last", "--to", "onnx", "--opset", "9"],
            "--opset: no such option; expected --to, --output, --calibration, --task",
        ),
        (["last", "--to", "onnx", "--output", "no/where.onnx"], "expected a folder that is there"),
        (["last", "--to", "onnx_int8"], "--calibration: missing; --to onnx_int8 expects a folder of images like those"),
        (["last", "--to", "onnx", "--calibration", "."], "--calibration .: expected only with --to onnx_int8"),
    ],
)
def test_an_error_is_one_line(words, problem, capsys):
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_calibration_takes_the_tile_in_the_center():
    image = np.arange(100 * 50).reshape(100, 50, 1)
    np.testing.assert_array_equal(_center(image, 64), image[18:82])


def test_the_project_has_the_command():
    entry = yaml.safe_load((ROOT / "mlproject").read_text(encoding="utf-8"))["entry_points"]["export"]
    assert entry["command"] == "python -m experiments.commands.export {model} --to {to}"
    assert list(entry["parameters"]) == ["model", "to"]
