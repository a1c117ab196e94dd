"""Patients, classes and files whose names are written in several ways."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.data.names import find_patient, normalize_patient_id
from mrcnn.data.problems import Problems
from mrcnn.data.readers.records import name_patients
from mrcnn.errors import InputError

NAME = "Müller"
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, NAME) for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("written", "patient"),
    [
        ("P03", "P03"), ("P03 ", "P03"), ("\tP03\n", "P03"), ("P03\u00a0", "P03"), ("\ufeffP03", "P03"),
        ("P\u200b03", "P03"), ("Ｐ０３", "P03"), ("P  03", "P 03"), ("P\u00a003", "P 03"), ("P\u300003", "P 03"),
        (DECOMPOSED, COMPOSED), ("p03", "p03"), ("003", "003"), ("1.5", "1.5"), ("v1.0", "v1.0"),
        (3, "3"), (3.0, "3"), ("3", "3"), ("3.0", "3"), ("3.00", "3"), (0, "0"), (2.5, "2.5"), (10**18, "1" + 18 * "0"),
        *((missing, None) for missing in (
            None, "", "  ", "nan", "NaN", float("nan"), "null", "NULL", "none", "None", "NA", "N/A", "n/a", "n.a.", "-",
            "--", "—", "?", "<NA>", "#N/A", "(null)", "undefined", "unknown", "not available",
        )),
    ],
)  # fmt: skip
def test_normalized_patient(written, patient):
    assert normalize_patient_id(written) == patient


@pytest.mark.parametrize("value", [True, [1], {"id": 1}])
def test_a_patient_is_text_or_a_number(value, coco, write_coco):
    with pytest.raises(ValueError, match="expected text or a number"):
        normalize_patient_id(value)
    coco["images"][0]["patient_id"] = value
    with pytest.raises(InputError, match=r"a_1\.png: patient_id .*; expected text or a number"):
        read_dataset(write_coco(coco))


def named(*stated, pattern=None):
    problems = Problems("set")
    patients, warnings = name_patients(stated, [f"{i}.png" for i in range(len(stated))], pattern, problems)
    problems.raise_if_any()
    return patients, warnings


def test_letter_case_joins_and_leading_zeros_are_doubted():
    patients, warnings = named("p03", "P03", "P4", "P-4", "Q7", "Q07", "1-12", "11-2", "003", "3")
    assert patients == ["P03", "P03", "P4", "P-4", "Q7", "Q07", "1-12", "11-2", "003", "3"]
    assert len(warnings) == 2
    assert "patients are spelled in several letter cases" in warnings[0] and "P03 = p03" in warnings[0]
    assert warnings[1].startswith("3 groups") and all(each in warnings[1] for each in ("003 and 3", "P-4 and P4"))
    assert named("A1", "A2", "B1") == (["A1", "A2", "B1"], [])


def test_numbers_of_all_types_are_one_patient_and_nobody_is_nobody():
    assert named(3, 3.0, "3", "3.0")[0] == ["3"] * 4
    patients, (told,) = named("x", "nan", None, "N/A")
    assert patients == ["x", "1.png", "2.png", "3.png"] and told.startswith("3 of 4 images name no patient")


def test_augmented_copies_of_one_image_are_one_patient():
    folders = enumerate(("train", "test"))
    names = [f"{folder}/scan{n}_png.rf.{n + 10 * k:032x}.jpg" for k, folder in folders for n in (1, 2)]
    assert name_patients([None] * 4, names, None, Problems("set"))[0] == ["scan1_png", "scan2_png"] * 2
    assert name_patients([None], ["report.rf.png"], None, Problems("set"))[0] == ["report.rf.png"]


@pytest.mark.parametrize("key", ["patient_id", "Patient ID", "patientId", "PatientID", "patient", "subject_id"])
def test_fields_that_name_the_patient(key):
    assert find_patient({"view": "PA", key: "P1"}) == "P1"
    assert find_patient({"view": "PA", "patients": 3, "patient": {"age": 40}}) is None


def test_coco_patients_with_blanks(coco, write_coco):
    coco["images"][0]["patient_id"], coco["images"][1]["patient_id"] = "P03", "P03 "
    dataset = read_dataset(write_coco(coco))
    assert [record.patient_id for record in dataset.records] == ["P03", "P03"] and not dataset.warnings


def test_categories_in_several_forms_of_unicode_are_one_class(coco, write_coco):
    coco["categories"] = [{"id": 3, "name": f"{COMPOSED} "}, {"id": 7, "name": DECOMPOSED}]
    dataset = read_dataset(write_coco(coco))
    assert dataset.class_names == (COMPOSED,)
    assert any("2 categories are called" in warning for warning in dataset.warnings)


def test_classes_that_differ_in_letter_case_are_doubted(coco, write_coco):
    coco["categories"] = [{"id": 3, "name": "nodule"}, {"id": 7, "name": "Nodule"}]
    dataset = read_dataset(write_coco(coco))
    assert dataset.class_names == ("nodule", "Nodule")
    assert any("'nodule' and 'Nodule' differ in letter case alone" in warning for warning in dataset.warnings)


def test_labels_of_images_in_one_form(coco, write_coco):
    coco["images"][0]["label"], coco["images"][1]["label"] = "benign ", "benign"
    assert {record.label for record in read_dataset(write_coco(coco)).records} == {"benign"}


@pytest.mark.parametrize(
    ("stated", "on_disk", "told"),
    [
        (f"{COMPOSED}.png", f"{DECOMPOSED}.png", False),
        (f"{DECOMPOSED}.png", f"{COMPOSED}.png", False),
        (f"{DECOMPOSED}/a.png", f"{COMPOSED}/a.png", False),
        ("a.PNG", "a.png", True),
        ("A_1.png", "a_1.PNG", True),
        ("Train/a.png", "train/a.png", True),
    ],
)
def test_file_names_in_another_form(coco, write_coco, stated, on_disk, told):
    coco["images"][0]["file_name"] = "first.png"
    folder = write_coco(coco)
    target = folder / "images" / on_disk
    target.parent.mkdir(exist_ok=True)
    (folder / "images" / "first.png").rename(target)
    coco["images"][0]["file_name"] = stated
    (folder / "annotations.json").write_text(json.dumps(coco))
    dataset = read_dataset(folder)
    assert dataset.records[0].path == target
    assert any("not lie where" in warning for warning in dataset.warnings) == told


def test_two_files_of_one_name_but_for_letter_case_are_not_guessed(coco, write_coco):
    folder = write_coco(coco)
    for name in ("A_1.PNG", "A_1.png"):
        Image.fromarray(np.zeros((12, 20), np.uint8)).save(folder / "images" / name)
    coco["images"][0]["file_name"] = "a_1.PNG"
    (folder / "annotations.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=r"'a_1\.PNG' could be .* or .*; expected one file"):
        read_dataset(folder)
    coco["images"][0]["file_name"] = "a_1.png"  # which is there, letter for letter
    (folder / "annotations.json").write_text(json.dumps(coco))
    assert read_dataset(folder).records[0].path.name == "a_1.png"


def test_via_names(tmp_path):
    """A patient among the attributes of the file, classes with blanks, and a file of another letter case."""
    (tmp_path / "x.png").parent.mkdir(exist_ok=True)
    for name in ("x.png", "y.png"):
        Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / name)
    square = {"name": "rect", "x": "2", "y": 3.0, "width": "4.0", "height": 5}
    content = {
        name: {
            "filename": name,
            "file_attributes": {"Patient ID": patient},
            "regions": [{"shape_attributes": square, "region_attributes": {"type": kind}}],
        }
        for name, patient, kind in (("x.PNG", "P03", "nodule"), ("y.png", "P03 ", " nodule"))
    }
    (tmp_path / "via_region_data.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("nodule",)
    assert [record.patient_id for record in dataset.records] == ["P03", "P03"]
    assert dataset.records[0].path == tmp_path / "x.png" and dataset.records[0].boxes.tolist() == [[2, 3, 6, 8]]
