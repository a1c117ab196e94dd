import io
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trackers.runs.tensorboard import EventWriter


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_scalars_are_read_back_while_the_file_is_open(tmp_path):
    writer = EventWriter(tmp_path / "events")
    before = time.time()
    writer.scalars({"train/loss": 2.5, "val/dice/nódulo (iso)": np.float32(0.25)}, step=0)
    writer.scalars({"train/loss": 1.5}, step=1)
    events = read(tmp_path / "events")
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == [(0, 2.5), (1, 1.5)]
    assert events.Scalars("val/dice/nódulo (iso)")[0].value == 0.25
    assert before - 1 < events.Scalars("train/loss")[0].wall_time < time.time() + 1
    writer.close()
    writer.close()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_images_are_read_back(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    writer = EventWriter(tmp_path)
    writer.image("worst/1", array, step=4)
    writer.close()
    (image,) = read(tmp_path).Images("worst/1")
    assert (image.step, image.height, image.width) == (4, 5, 7)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), array)


def test_a_second_writer_goes_on_in_its_own_file(tmp_path):
    for step in range(2):
        writer = EventWriter(tmp_path)
        writer.scalars({"loss": step}, step)
        writer.close()
    assert [point.step for point in read(tmp_path).Scalars("loss")] == [0, 1]


def test_what_came_after_a_position_is_dropped(tmp_path):
    writer = EventWriter(tmp_path)
    writer.scalars({"loss": 1.0}, 1)
    position = writer.position()
    writer.scalars({"loss": 2.0}, 2)
    writer.close()
    with open(tmp_path / position[0], "ab") as file:
        file.write(b"half a rec")  # of a process that was killed
    writer = EventWriter(tmp_path, position)
    writer.scalars({"loss": 3.0}, 2)
    writer.close()
    assert [(point.step, point.value) for point in read(tmp_path).Scalars("loss")] == [(1, 1.0), (2, 3.0)]
    assert len(list(tmp_path.iterdir())) == 1


def test_tensorflow_is_not_loaded(tmp_path):
    work = (
        "import sys; from trackers.runs.tensorboard import EventWriter; "
        f"EventWriter({str(tmp_path)!r}).scalars({{'a': 1}}, 0); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", work], check=False).returncode == 0
