"""Regions of label maps, from tables written by hand after the challenges' own descriptions."""

import numpy as np
import pytest

from mrcnn.data.reader_options import VolumesOptions
from mrcnn.data.readers.volumes.brats import (
    LABEL_CODES,
    infer_label_codes,
    label_map,
    label_regions,
    output_label_codes,
)
from mrcnn.errors import InputError

# For each code 0 … 4 whether it lies in the whole tumor, in its core, in the enhancing tumor.
IN_REGIONS = {
    "brats2013": ("000", "110", "100", "110", "111"),
    "brats2018": ("000", "110", "100", None, "111"),
    "brats2023": ("000", "110", "100", "111", None),
    "brats2024": ("000", "110", "100", "111", "000"),
    "brats2024_ped": ("000", "111", "110", "110", "100"),
    "brats2024_men_rt": ("0", "1", None, None, None),
    "msd": ("000", "100", "110", "111", None),
}


@pytest.mark.parametrize(("codes", "code"), [(name, code) for name in IN_REGIONS for code in range(5)])
def test_each_code_lies_in_its_regions(codes, code):
    expected = IN_REGIONS[codes][code]
    if expected is None:
        return
    regions = label_regions(np.full((2, 2), code), codes)
    assert "".join(str(int(region.all())) for region in regions) == expected
    back = label_map(regions, codes)
    assert back.dtype == np.uint8
    # Necrosis and non-enhancing core are one region, so are pediatric core and cyst; no region holds the cavity.
    merged = {("brats2013", 3): 1, ("brats2024_ped", 3): 2, ("brats2024", 4): 0}
    assert (back == merged.get((codes, code), code)).all()


def test_regions_that_do_not_lie_within_each_other_still_make_a_label_map():
    whole, core, enhancing = np.eye(3, dtype=bool)
    assert label_map(np.stack([whole, core, enhancing]), "brats2018").tolist() == [2, 1, 4]


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ({"Brats18_1_1": {1, 2, 4}}, ["brats2018"]),
        ({"brats_2013_pat0001_1": {1, 2, 3, 4}}, ["brats2013"]),
        ({"deepmedic_brats_tcia_pat101_1": {2, 3}}, ["brats2013"]),
        ({"BraTS20_Training_001": {1, 2}, "BraTS20_Training_002": {4}}, ["brats2018"] * 2),
        ({"BraTS2021_00000": {1, 2, 4}}, ["brats2018"]),
        ({"UPENN-GBM-00001_11": {1, 2, 4}}, ["brats2018"]),
        ({"BraTS-GLI-00001-100": {1, 2, 3, 4}, "BraTS-GLI-00002-101": {1, 2, 3}}, ["brats2024"] * 2),
        ({"BraTS-GLI-00001-000": {1, 2, 3}, "BraTS-GLI-00002-101": {2, 4}}, ["brats2024"] * 2),
        ({"BraTS-GLI-00001-100": {2, 4}}, ["brats2024"]),
        ({"BraTS-MET-00001-000": {1, 2, 3, 4}}, ["brats2024"]),
        ({"BraTS-MEN-00001-000": {1, 2, 3}, "BraTS-SSA-00002-000": {1, 2, 3}}, ["brats2023"] * 2),
        ({"BraTS-GoAT-00001": {2, 3}}, ["brats2023"]),
        ({"BraTS-PED-00001-000": {1, 2}, "BraTS-PED-00002-000": {2, 4}}, ["brats2024_ped"] * 2),
        ({"BraTS-MEN-RT-0001-1": {1}, "BraTS-MEN-RT-0002-1": set()}, ["brats2024_men_rt"] * 2),
        ({"BraTS-GLI-00000-000": {1, 2, 3}}, ["brats2023"]),
        ({"phantom_001": {1, 2}, "phantom_002": {1, 2, 4}}, ["brats2018"] * 2),
        ({"other": set()}, ["brats2018"]),
    ],
)
def test_codes_are_told_by_values_and_by_cases_of_the_same_naming(cases, expected):
    codes, warnings = infer_label_codes(list(cases), [frozenset(values) for values in cases.values()])
    assert codes == expected
    assert warnings == []


@pytest.mark.parametrize(
    ("cases", "codes", "said"),
    [
        ({"pat_1": {1, 2}, "pat_2": {1, 2, 4}, "x": set()}, ["brats2018"] * 3, ["2 of 3 cases", "brats2018"]),
        ({"BraTS-MET-00001-000": {2, 4}}, ["brats2024"], ["none holds 3", "label_codes=brats2018"]),
    ],
)
def test_doubtful_codes_are_said_to_be(cases, codes, said):
    found, (warning,) = infer_label_codes(list(cases), [frozenset(values) for values in cases.values()])
    assert found == codes
    assert all(part in warning for part in said)


@pytest.mark.parametrize(
    "cases",
    [
        {"pat_1": {1, 2, 3, 4}},  # 2013, treated, or pediatric
        {"pat_1": {2, 3}, "pat_2": {1, 2}},
        {"BRATS_001": {1, 2, 3}},  # as in the Decathlon, whose 1 is edema
        {"BraTS2021_00000": {1, 2, 3}},  # written anew by somebody
        {"BraTS-PED-00001-000": {1, 2, 3}},  # 2023 or 2024
        {"BraTS-MEN-00001-000": {3, 4}},
        {"BraTS-MEN-RT-0001-1": {1, 2}},
    ],
)
def test_several_readings_or_none_are_an_error_that_lists_the_codes(cases):
    with pytest.raises(InputError, match=r"set volumes\.label_codes to") as error:
        infer_label_codes(["phantom_001", *cases], [frozenset({1, 2, 4}), *map(frozenset, cases.values())])
    message = str(error.value)
    assert message.startswith(next(iter(cases))) and len(message) < 600  # the longest that problems show
    assert all(f"{name} ({codes.meaning})" in message for name, codes in LABEL_CODES.items())


def test_the_option_takes_all_codes():
    assert [VolumesOptions(label_codes=name).label_codes for name in LABEL_CODES] == list(LABEL_CODES)


def test_codes_to_write_are_those_of_the_naming():
    assert output_label_codes("BraTS-GLI-00001-100/x") == "brats2024"
    assert output_label_codes("BraTS-PED-00001-000") == "brats2024_ped"
    assert output_label_codes("BraTS-MEN-RT-0001-1") == "brats2023"  # which have all three regions
    assert output_label_codes("Brats18_2013_21_1") == output_label_codes("scan") == "brats2018"
