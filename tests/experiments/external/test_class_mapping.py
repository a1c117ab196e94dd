import pytest

from experiments.external.class_mapping import map_classes
from mrcnn.errors import InputError


def test_equal_names_match_in_any_order():
    found = map_classes(("hypo", "iso"), ("iso", "hypo"))
    assert (found.names, found.of_data.tolist(), found.of_model.tolist()) == (("iso", "hypo"), [0, 2, 1], [0, 1, 2])
    assert found.note == ""


def test_two_classes_of_the_model_can_be_one_of_the_data():
    found = map_classes(("nodule",), ("iso", "hypo"), [("nodule", "iso"), ("nodule", "hypo")])
    assert (found.names, found.of_data.tolist(), found.of_model.tolist()) == (("nodule",), [0, 1], [0, 1, 1])


def test_two_classes_of_the_data_can_be_one_of_the_model():
    found = map_classes(("left", "right", "heart"), ("lung", "heart"), [("left", "lung"), ("right", "lung")])
    assert (found.names, found.of_data.tolist(), found.of_model.tolist()) == (
        ("lung", "heart"),
        [0, 1, 1, 2],
        [0, 1, 2],
    )


def test_a_class_that_the_data_lack_is_noted():
    found = map_classes(("nodule",), ("iso", "hypo"), [("nodule", "hypo")])
    assert (found.names, found.of_data.tolist()) == (("iso", "hypo"), [0, 2])
    assert found.note == "The data have no class iso: all detections of it count as false positives."


def test_class_agnostic():
    found = map_classes(("a", "b"), ("c",), class_agnostic=True)
    assert (found.names, found.of_data.tolist(), found.of_model.tolist()) == (("any",), [0, 1, 1], [0, 1])


@pytest.mark.parametrize(
    ("pairs", "problem"),
    [
        ([], "the model has no class nodule; classes of the data: nodule; classes of the model: iso, hypo; name the"),
        ([("lump", "iso")], "--map lump=iso: expected a class of the data = a class of the model; classes of the data"),
        ([("nodule", "cyst")], "--map nodule=cyst: expected a class of the data"),
    ],
)
def test_an_unmapped_class_is_an_error_that_lists_both_sides(pairs, problem):
    with pytest.raises(InputError) as error:
        map_classes(("nodule",), ("iso", "hypo"), pairs)
    assert str(error.value).startswith(problem) and "classes of the model: iso, hypo" in str(error.value)
