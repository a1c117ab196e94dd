import pytest

from benchmarks.speed import System, parse, peer_of
from benchmarks.speed_table import Measured


def test_sizes_and_batches_are_read():
    assert parse(["--at", "512x2", "256x4"]).at == [(512, 2), (256, 4)]


@pytest.mark.parametrize(
    "words",
    [
        ["--at", "512"],
        ["--turns", "0"],
        ["--work", "rest"],
        ["--peer-python", "no-such-python"],
        ["--matterport-python", "python3"],
    ],
)
def test_a_wrong_word_is_told(words, capsys):
    with pytest.raises(SystemExit):
        parse(words)
    assert words[0] in capsys.readouterr().err


def test_a_system_is_compared_with_the_fastest_peer_of_its_precision_or_else_of_float32():
    def system(name, precision="float32"):
        return System(f"{name} {precision}", precision, "", "", {}, {})

    def measured(name, seconds):
        return Measured(64, 1, "train", name, 0.0, None, [], "cpu", seconds=seconds)

    ours = system("tensorflow", "mixed_bfloat16")
    slow, fast, mixed = system("torchvision"), system("matterport"), system("torchvision", "mixed_bfloat16")
    times = {"torchvision float32": [3.0, 1.0, 3.0], "matterport float32": [2.0, 2.0, 2.0]}
    times["torchvision mixed_bfloat16"] = [4.0, 4.0, 4.0]
    found = {name: measured(name, seconds) for name, seconds in times.items()}
    assert peer_of(ours, [slow, fast], found).system == "matterport float32"
    assert peer_of(ours, [slow, fast, mixed], found).system == "torchvision mixed_bfloat16"
    assert peer_of(slow, [slow, mixed], found) is None
    assert peer_of(ours, [], found) is None
