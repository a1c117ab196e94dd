"""A hospital's DICOM files from the training to every form of prediction: nobody's name comes out, and no secret."""

import gzip
import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from experiments.commands.check import main as check
from experiments.commands.predict import main as predict
from experiments.commands.train import main as train

IMAGES = 12
SECRET = "Zq7secretword"
STATED = {
    "PatientName": "Zzyxwy^Pusztay", "PatientID": "MRNzx4711-{}", "PatientBirthDate": "19700131", "PatientSex": "O",
    "AccessionNumber": "ACCq90210", "InstitutionName": "Klinik Qwxyz", "ReferringPhysicianName": "Vbnmk^Anton",
    "StudyID": "STDq77", "StudyDate": "20240229", "StudyTime": "", "StudyDescription": "Nachsorge Zzyxwy",
    "PatientAddress": "Wqxweg 5", "OtherPatientIDs": "OLDq12", "PatientComments": "kommt Wqx wieder",
}  # fmt: skip
WORDS = (
    "Zzyxwy", "Pusztay", "MRNzx4711", "19700131", "ACCq90210", "Qwxyz", "Vbnmk", "STDq77", "20240229", "Wqxweg",
    "OLDq12", "kommt Wqx", SECRET,
)  # fmt: skip


def write_image(path, number):
    """An ultrasound image with a bright ellipse, of one of six patients; returns the outline."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 90, (64, 64)).astype(np.uint8)
    x, y = rng.integers(12, 40, 2)
    pixels[y : y + 14, x : x + 18] += 120
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "US"
    dataset.Manufacturer, dataset.SeriesNumber, dataset.InstanceNumber = "M", 1, number
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, pixels.tobytes()
    for name, value in STATED.items():
        setattr(dataset, name, value.format(number % 6))
    dataset.private_block(0x0011, "A SCANNER", create=True).add_new(1, "LO", "Zzyxwy^Pusztay")
    dataset.save_as(path, enforce_file_format=True)
    x, y = int(x), int(y)
    return [x, y, x + 18, y, x + 18, y + 14, x, y + 14]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospital")
    (folder / "images").mkdir()
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "iso"}, {"id": 2, "name": "hypo"}]}
    for number in range(IMAGES):
        outline = write_image(folder / "images" / f"{number}.dcm", number)
        content["images"].append({"id": number, "file_name": f"{number}.dcm", "width": 64, "height": 64})
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1 + number % 2, "segmentation": [outline]}
        )
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def contents(path):
    """(name, bytes) of a file, and of what is packed in it."""
    raw = path.read_bytes()
    yield path.name, raw
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from ((f"{path.name}:{name}", archive.read(name)) for name in archive.namelist())
    if raw[:2] == b"\x1f\x8b":
        yield path.name, gzip.decompress(raw)


def holders(*folders):
    """Files below the folders in which, or in whose names, one of the words stands."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    return {
        (name, word)
        for path in files
        for name, content in contents(path)
        for word in WORDS
        if word.encode() in content or word in str(path)
    }


@pytest.mark.slow
def test_nothing_of_a_patient_and_no_secret_comes_out(store, hospital, tiny_arguments, tmp_path, monkeypatch, capfd):
    pytest.importorskip("highdicom")
    for name in ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MRCNN_PATIENT_SALT"):
        monkeypatch.setenv(name, f"{SECRET}-{name}-long-enough")
    assert train(tiny_arguments(dataset=hospital, seed=2, split="[0.5, 0.25, 0.25]", near_duplicates="ignore")) == 0
    (run,) = store.search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert holders(Path.cwd()) == set()  # the store and the cache
    splits = json.loads(Path(store.download_artifacts(run.info.run_id, "splits.json")).read_text())
    patients = [{entry["patient_id"] for entry in entries} for entries in splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6

    words = [run.info.run_id, str(hospital / "images"), "--output", str(tmp_path / "out"), "--confidence", "0.01"]
    assert predict([*words, "--write", "coco,findings,mask,dicom_seg,overlay,splash"]) == 0
    assert holders(tmp_path / "out") == set()
    assert len(list((tmp_path / "out" / "dicom_seg").iterdir())) == IMAGES
    said = capfd.readouterr()
    assert [word for word in WORDS if word in said.out + said.err] == []

    words[3] = str(tmp_path / "asked")
    assert predict([*words, "--write", "dicom_seg", "--keep_patient", "true"]) == 0
    assert {name.rpartition(".")[2] for name, _ in holders(tmp_path / "asked")} == {"dcm"}
    found = pydicom.dcmread(tmp_path / "asked" / "dicom_seg" / "3.dcm")
    assert (found.PatientName, found.PatientID) == ("Zzyxwy^Pusztay", "MRNzx4711-3")
    said = capfd.readouterr()
    assert [word for word in WORDS if word in said.out + said.err] == []


def test_nothing_of_a_damaged_header_comes_out(store, hospital, tiny_arguments, tmp_path, capfd):
    """pydicom quotes what it stumbles over: here rows, a spacing, a window and a size of pixels that are text."""
    folder = Path(shutil.copytree(hospital, tmp_path / "spoilt"))
    spoilt = ("Rows", "PixelSpacing", "WindowWidth", "RescaleSlope", "BitsAllocated")
    for number, keyword in enumerate(spoilt):
        path = folder / "images" / f"{number}.dcm"
        dataset = pydicom.dcmread(path)
        dataset.pop(keyword, None)
        dataset.WindowCenter = 1
        dataset.save_as(path)
        tag, data = pydicom.tag.Tag(keyword), path.read_bytes()
        after = next(each for each in dataset if each.tag > tag)
        place = data.index(struct.pack("<HH", after.tag.group, after.tag.element) + after.VR.encode(), 132)
        text = f"{SECRET} ".encode()
        element = struct.pack("<HH2sH", tag.group, tag.element, b"LO", len(text)) + text
        path.write_bytes(data[:place] + element + data[place:])
    assert check([str(folder), "--to", str(tmp_path / "report")]) == 2
    assert train(tiny_arguments(dataset=folder, seed=2, near_duplicates="ignore")) == 2
    said = capfd.readouterr()
    assert "0.dcm: Rows (DICOM): expected numbers" in said.out + said.err
    assert [word for word in WORDS if word in said.out + said.err] == []
    shutil.rmtree(folder)
    assert holders(Path.cwd(), tmp_path) == set()
