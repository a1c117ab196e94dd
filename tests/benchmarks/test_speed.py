import pytest

from benchmarks.speed import System, parse, peer_of


def test_sizes_and_batches_are_read():
    assert parse(["--at", "512x2", "256x4"]).at == [(512, 2), (256, 4)]


@pytest.mark.parametrize(
    "words", [["--at", "512"], ["--turns", "0"], ["--work", "rest"], ["--peer-python", "no-such-python"]]
)
def test_a_wrong_word_is_told(words, capsys):
    with pytest.raises(SystemExit):
        parse(words)
    assert words[0] in capsys.readouterr().err


def test_a_system_is_compared_with_the_peer_of_its_precision_or_else_with_float32():
    def system(name, precision):
        return System(f"{name} {precision}", precision, "", "", {}, {})

    ours = system("tensorflow", "mixed_bfloat16")
    single, mixed = system("torchvision", "float32"), system("torchvision", "mixed_bfloat16")
    measured = {"torchvision float32": "single", "torchvision mixed_bfloat16": "mixed"}
    assert peer_of(ours, [single], measured) == "single"
    assert peer_of(ours, [single, mixed], measured) == "mixed"
    assert peer_of(single, [single, mixed], measured) is None
    assert peer_of(ours, [], measured) is None
