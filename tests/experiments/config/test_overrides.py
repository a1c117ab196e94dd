import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.overrides import flattened, full_key, merged, nested, parse_value
from mrcnn.errors import InputError

names = st.text("abcdefgh_", min_size=1, max_size=4)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
trees = st.recursive(
    st.dictionaries(names, leaves, min_size=1, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(leaves, inner), min_size=1, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_flattening_and_nesting_undo_each_other(tree):
    assert nested(flattened(tree)) == tree


@given(trees, trees)
def test_the_upper_tree_wins_and_nothing_below_it_is_lost(below, above):
    result = flattened(merged(below, above))
    assert flattened(above).items() <= result.items()
    replaced = set(flattened(above))
    for key, value in flattened(below).items():
        parts = key.split(".")
        over = {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & replaced
        under = any(name.startswith(f"{key}.") for name in replaced)
        assert over or under or result[key] == value


@given(st.sets(st.tuples(names, names).map(".".join), min_size=1, max_size=6), st.data())
def test_a_last_name_means_the_only_option_that_ends_in_it(known, data):
    key = data.draw(st.sampled_from(sorted(known)))
    leaf = key.split(".")[1]
    assert full_key(key, known) == key
    if sum(name.split(".")[1] == leaf for name in known) == 1:
        assert full_key(leaf, known) == key
    else:
        with pytest.raises(InputError, match="could mean"):
            full_key(leaf, known)


def test_a_misspelt_name_gets_a_hint():
    with pytest.raises(InputError, match=r"--epocs: no such option; did you mean train\.epochs\?"):
        full_key("epocs", ["train.epochs", "seed"])


@given(leaves)
def test_values_are_yaml(value):
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n")
    assert parse_value("key", text) == value


def test_broken_yaml_names_the_option():
    with pytest.raises(InputError, match=r"--split \[0\.9,: expected a YAML value"):
        parse_value("split", "[0.9,")
