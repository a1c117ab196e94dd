import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.command_line import Option, Parser, boolean, word_list
from mrcnn.errors import InputError

NAMES = ("shift", "long_name", "models")


@pytest.fixture(scope="module")
def parser():
    switch = {"is_flag": False, "flag_value": "true", "default": "false", "callback": boolean}
    return Parser(
        "test",
        params=[
            click.Argument(["files"], nargs=-1),
            *(Option([f"--{name}"], type=str, several=name == "models") for name in NAMES[:2]),
            Option(["--models"], type=str, several=True, callback=word_list),
            Option(["--dry-run"], type=str, **switch),
        ],
        callback=lambda **values: values,
    )


@given(
    st.dictionaries(st.sampled_from(NAMES[:2]), st.text(max_size=6).filter(lambda text: text[:1] != "["), max_size=4),
    st.data(),
)
def test_mlflow_style_and_equals_sign_are_equal(parser, values, data):
    words = []
    for key, value in values.items():
        name = data.draw(st.sampled_from([key, key.replace("_", "-")]))
        # An empty or dashed value needs an equals sign, as in every program.
        apart = not value.startswith("--") and data.draw(st.booleans())
        words += [f"--{name}", value] if apart else [f"--{name}={value}"]
    found = parser.parse(words)
    assert {key: found[key] for key in NAMES[:2]} == {key: values.get(key) for key in NAMES[:2]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shift"], "--shift: expected a value after it"),
        (["--shift", "1", "--shift=2"], "--shift: expected once"),
        (["--long-name", "1", "--long_name", "2"], "--long_name: expected once"),
        (["--shfit", "3"], r"--shfit: no such option; did you mean --shift\?"),
        (["--colour", "3"], "--colour: no such option; expected --shift, --long_name, --models, --dry-run"),
        (["--dry-run", "maybe"], "--dry-run maybe: expected true or false"),
    ],
)
def test_errors_name_the_option(parser, words, message):
    with pytest.raises(InputError, match=message):
        parser.parse(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], False), (["--dry-run"], True), (["--dry_run", "--shift", "1"], True), (["--dry-run", "true"], True),
        (["--dry-run=false"], False), (["--dry_run", "false"], False),
    ],
)  # fmt: skip
def test_a_boolean_option_stands_alone_or_has_a_value(parser, words, expected):
    assert parser.parse(words)["dry_run"] is expected


def test_a_negative_number_is_a_value(parser):
    assert parser.parse(["--shift", "-3"])["shift"] == "-3"


@pytest.mark.parametrize(
    "words",
    [
        ["--models", "a", "b", "c"], ["--models", "a,b,c"], ["--models=a,b,c"], ["--models", "[a,", "b,", "c]"],
        ["--models=[a,", "b,", "c]"],
    ],
)  # fmt: skip
def test_a_list_is_words_commas_or_brackets(parser, words):
    found = parser.parse(["first", *words, "--shift", "1"])
    assert (found["models"], found["files"], found["shift"]) == (("a", "b", "c"), ("first",), "1")
