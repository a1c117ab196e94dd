"""Pseudonyms that only who holds the secret can make, and data sets that are the same without it."""

import hashlib
import hmac
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mrcnn.data import read_dataset, split_by_patient
from mrcnn.data.io import pseudonyms as module
from mrcnn.data.io.dicom import pseudonym
from mrcnn.data.io.pseudonyms import VARIABLE, patient_salt
from mrcnn.data.splits import folds_by_patient
from mrcnn.errors import InputError

FIRST, SECOND = "the first team's secret", "the second team's secret"


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """The file of the secret, in a cache folder that is not there yet."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    module._read_salt.cache_clear()
    yield tmp_path / "cache" / "patient-salt"
    module._read_salt.cache_clear()


def patient(identity, issuer=""):
    header = Dataset()
    header.PatientID, header.IssuerOfPatientID = identity, issuer
    return header


def test_the_pseudonym_is_a_keyed_hash_under_the_secret(monkeypatch):
    monkeypatch.setenv(VARIABLE, FIRST)
    by_hand = hmac.new(FIRST.encode(), b"medmrcnn patient pseudonym 2\0A\x004711", hashlib.sha256).hexdigest()[:16]
    assert pseudonym(patient("4711", "A")) == by_hand
    monkeypatch.setenv(VARIABLE, SECOND)
    assert pseudonym(patient("4711", "A")) != by_hand


def test_a_secret_is_made_once_for_its_owner_alone(kept):
    salt = patient_salt()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text() == salt.hex() and len(salt) == 32
    module._read_salt.cache_clear()
    assert patient_salt() == salt
    assert [path.name for path in kept.parent.iterdir()] == ["patient-salt"]
    kept.unlink()
    module._read_salt.cache_clear()
    assert patient_salt() != salt


def test_of_processes_that_make_it_at_once_all_take_one(kept):
    code = "from mrcnn.data.io.pseudonyms import patient_salt; print(patient_salt().hex())"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = {process.communicate()[0].strip() for process in running}
    assert found == {kept.read_text()}
    assert [path.name for path in kept.parent.iterdir()] == ["patient-salt"]


def test_one_that_appears_meanwhile_is_not_replaced(kept, monkeypatch):
    link = os.link

    def late(draft, path):
        path.write_text("ab" * 32)
        link(draft, path)

    monkeypatch.setattr(os, "link", late)
    assert patient_salt() == b"\xab" * 32
    assert [path.name for path in kept.parent.iterdir()] == ["patient-salt"]


def test_what_is_no_secret_is_refused_and_not_quoted(kept, monkeypatch):
    kept.parent.mkdir()
    for damaged in ("", "zz" * 32, "ab" * 31):
        kept.write_text(damaged)
        with pytest.raises(InputError, match=r"patient-salt: expected 64 hexadecimal digits") as error:
            patient_salt()
        assert not damaged or damaged not in str(error.value)
    monkeypatch.setenv(VARIABLE, "zzzz")
    with pytest.raises(InputError, match=f"{VARIABLE}: expected at least 16 characters") as error:
        patient_salt()
    assert "zzzz" not in str(error.value)


def test_a_folder_that_cannot_be_made_is_told(kept):
    kept.parent.write_text("a file")
    with pytest.raises(InputError, match="set MRCNN_PATIENT_SALT, or MRCNN_CACHE to another folder"):
        patient_salt()


def write_dicom(path, number, identity):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 12, 20, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PatientID = 7, identity
    dataset.PixelData = np.full((12, 20), number, np.uint8).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def test_splits_and_digests_are_the_same_under_every_secret(monkeypatch, tmp_path):
    images = [{"id": n, "file_name": f"{n}.dcm", "height": 12, "width": 20} for n in range(24)]
    outline = [[2, 2, 10, 2, 10, 9, 2, 9]]
    content = {
        "images": images,
        "categories": [{"id": 1, "name": "nodule"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": outline} for n in range(24)],
    }
    (folder := tmp_path / "set" / "images").mkdir(parents=True)
    for number in range(24):
        write_dicom(folder / f"{number}.dcm", number, f"P{number % 12}")
    (folder.parent / "annotations.json").write_text(json.dumps(content))
    found = []
    for salt in (FIRST, SECOND, FIRST + SECOND):
        monkeypatch.setenv(VARIABLE, salt)
        dataset = read_dataset(folder.parent)
        splits = split_by_patient(dataset, train=0.5, val=0.25, test=0.25, seed=4)
        folds = folds_by_patient(dataset, 4, seed=4)
        found.append(
            (
                {name: indices.tolist() for name, indices in splits.items()},
                [fold.tolist() for fold in folds],
                (dataset.digest, dataset.ordered_digest, dataset.subset(splits["test"]).digest),
                {record.patient_id for record in dataset.records},
            )
        )
    assert found[0][:3] == found[1][:3] == found[2][:3]
    assert len(found[0][3]) == 12 and not found[0][3] & found[1][3]
    # Whose images they are is part of the digest all the same: it stands in the files.
    write_dicom(folder / "3.dcm", 3, "P4")
    assert read_dataset(folder.parent).digest != found[0][2][0]
