"""Regions of label maps, from tables written by hand after the challenges' own descriptions."""

import numpy as np
import pytest

from mrcnn.data.label_codes import guess_codes, label_map, regions_of

# For each code 0 … 4 whether it lies in the whole tumour, in its core, in the enhancing tumour.
IN_REGIONS = {
    "brats2013": ("000", "110", "100", "110", "111"),
    "brats2018": ("000", "110", "100", None, "111"),
    "brats2023": ("000", "110", "100", "111", None),
}


@pytest.mark.parametrize(("codes", "code"), [(name, code) for name in IN_REGIONS for code in range(5)])
def test_each_code_lies_in_its_regions(codes, code):
    expected = IN_REGIONS[codes][code]
    if expected is None:
        return
    regions = regions_of(np.full((2, 2), code), codes)
    assert "".join(str(int(region.all())) for region in regions) == expected
    back = label_map(regions, codes)
    assert back.dtype == np.uint8
    # Necrosis and non-enhancing core of 2013 are one region.
    assert (back == (1 if (codes, code) == ("brats2013", 3) else code)).all()


def test_regions_that_do_not_lie_within_each_other_still_make_a_label_map():
    whole, core, enhancing = np.eye(3, dtype=bool)
    assert label_map(np.stack([whole, core, enhancing]), "brats2018").tolist() == [2, 1, 4]


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ({"Brats18_1_1": {1, 2, 4}}, ["brats2018"]),
        ({"pat_1": {1, 2, 3, 4}}, ["brats2013"]),
        ({"BraTS-GLI-00000-000": {1, 2, 3}}, ["brats2023"]),
        ({"pat_1": {2, 3}, "pat_2": {1, 3, 4}}, ["brats2013", "brats2013"]),
        ({"pat_1": {2, 4}, "pat_2": {2, 3, 4}, "pat_3": {2, 4}}, ["brats2018", "brats2013", "brats2018"]),
        ({"pat_1": {1, 2}, "pat_2": {1, 2, 4}}, ["brats2018", "brats2018"]),
        ({"other": set()}, ["brats2023"]),
    ],
)
def test_codes_are_told_by_values_and_by_cases_of_the_same_naming(cases, expected):
    codes, warnings = guess_codes(list(cases), [frozenset(values) for values in cases.values()])
    assert codes == expected
    assert warnings == []


def test_a_doubtful_code_is_said_to_be():
    codes, (warning,) = guess_codes(["pat_1", "pat_2"], [frozenset({2, 3}), frozenset({1, 2})])
    assert codes == ["brats2023", "brats2023"]
    assert "1 of 2" in warning and "label_codes=brats2013" in warning
