"""What all tests share: quiet libraries, few threads, and one tiny set of phantoms."""

import errno
import gc
import os
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path

# Before any test imports them: TensorFlow reads these once.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# So that no test makes one in the cache folder of who runs them.
os.environ.setdefault("MRCNN_PATIENT_SALT", "known to everybody, for tests alone")

import psutil
import pytest
from hypothesis import settings

# Time limits would fail tests on a busy machine, or where an example is the first to compile.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell's background jobs start with Ctrl-C ignored, which our runs respect; here they, and the processes that tests
# start, must meet it as in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

PHANTOM_IMAGES = 20
TESTS = Path(__file__).parent

# The longest files. xdist begins with the files of the most tests, which would leave these to one process at the end.
LONG = (
    # with `-m slow`: minutes each
    "experiments/training/test_resume.py",
    "experiments/commands/test_stops.py",
    "models/test_backends.py",
    "trackers/offline/test_server_outage.py",
    "test_tour.py",
    "models/training/test_replicas.py",
    "experiments/training/test_cross_validation.py",
    "experiments/baselines/test_baselines.py",
    # without
    "models/mask_rcnn/test_model.py",
    "experiments/training/test_trainer.py",
    "export/test_exporting.py",
    "experiments/external/test_evaluation.py",
    "trackers/packaging/test_packaged.py",
)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    first = {TESTS / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory):
    """A folder with 20 thyroid phantoms, as a person's data set: images and annotations.json."""
    from mrcnn.phantoms import write_dataset

    return write_dataset("thyroid", tmp_path_factory.mktemp("phantoms") / "nodules", images=PHANTOM_IMAGES, seed=3)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Content of a new SQLite store of MLflow: creating its tables takes longer than most tests."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("store")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def disk(tmp_path):
    """Mounts a disk of 2 MB; returns its path, a function that fills it, and one that makes it read-only."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount")

    class Disk:
        path = place

        def fill(self):
            with (
                open(place / "filler", "wb", buffering=0) as file,
                pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
            ):
                while True:
                    file.write(bytes(4096))

        def read_only(self):
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    yield Disk()
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture(scope="session")
def workers_alive():
    """Finds the processes of loaders below this one, by their numbers."""

    def find():
        gc.collect()  # an earlier test's loader lives as long as the exception that ended it
        children = psutil.Process().children(recursive=True)
        return [child.pid for child in children if any("mrcnn.data.loading.worker" in part for part in child.cmdline())]

    return find


@pytest.fixture(scope="module")
def eager():
    """Run TensorFlow without graphs in this module: compiling one takes as long as ten eager steps."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def gradients():
    """Finds d function(*values) / d value for each value as NumPy arrays; `function` returns a scalar."""

    import keras

    def find(function, *values):
        if keras.backend.backend() == "jax":
            import jax

            found = jax.grad(function, argnums=tuple(range(len(values))))(*map(keras.ops.convert_to_tensor, values))
        else:
            import tensorflow as tf

            tensors = [tf.convert_to_tensor(value) for value in values]
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            found = tape.gradient(value, tensors)
        return [keras.ops.convert_to_numpy(each) for each in found]

    return find


VOID = {"meta", "img", "br", "hr"}


class PageReader(HTMLParser):
    """A page read as strictly as it should be written, every tag closed in its turn.

    `attributes` of all elements are (tag, name, value), `text` is what stands between them.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f"</{tag}> within {self._open}"
        self._open.pop()

    def handle_data(self, data):
        if not self._open or self._open[-1] != "style":
            self.text += data

    def values(self, *names: str) -> list[str]:
        """Of attributes with these names."""
        return [value for _, name, value in self.attributes if name in names]


@pytest.fixture(scope="session")
def read_page():
    """Reads the text of a page, or of a part of one, with `PageReader`."""
    return PageReader
