import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from experiments.prediction.detector import Detector
from experiments.prediction.inputs import find_inputs
from experiments.prediction.progress_record import ProgressRecord
from experiments.prediction.run import Options, predict_items
from mrcnn.detections import Detections

NAMES = ("dim", "bright")


def find_squares(images):
    """What is at least 200 is one `bright` instance with a score of 0.9, what is from 100 to 199 one `dim` of 0.6."""
    found = []
    for image in images:
        plane = image[..., 0]
        masks = {2: plane >= 200, 1: (plane >= 100) & (plane < 200)}
        kept = [(class_id, mask) for class_id, mask in masks.items() if mask.any()]
        if not kept:
            found.append(Detections.empty(*plane.shape))
            continue
        boxes = []
        for _, mask in kept:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        ids = np.array([class_id for class_id, _ in kept], np.int32)
        scores = np.where(ids == 2, 0.9, 0.6).astype(np.float32)
        found.append(Detections(np.array(boxes, np.float32), scores, ids, np.stack([mask for _, mask in kept])))
    return found


def scene(height=40, width=56, shift=0):
    """(H, W) uint8: a dim square and within it a bright one, on black."""
    image = np.zeros((height, width), np.uint8)
    image[5:25, 6 + shift : 30 + shift] = 120
    image[10:18, 12 + shift : 22 + shift] = 230
    return image


@pytest.fixture
def squares():
    return Detector(find=find_squares, class_names=NAMES, channels=3, confidence=0.5, digest="d" * 64)


@pytest.fixture
def pictures(tmp_path):
    """A folder of six images that differ."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(scene(shift=number)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def predicted(tmp_path, squares):
    """Predicts paths into `tmp_path/out`; returns the report and the record."""

    def run(*paths, forms=("coco",), detector=squares, confidence=0.5, spacing_mm=None, keep_patient=False, **options):
        output = tmp_path / "out"
        inputs = find_inputs([str(path) for path in paths], base=tmp_path, output=output, fetch=None)
        record = ProgressRecord(output, {"model": detector.digest, "confidence": confidence}, **options)
        console = Console(quiet=True)
        chosen = Options(confidence, forms, spacing_mm, keep_patient)
        report = predict_items(inputs.items, detector, chosen, record, console)
        return report, record

    return run
