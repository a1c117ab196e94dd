import shutil
from dataclasses import replace

import pytest

from experiments.comparison import joint_test_set as testing
from experiments.comparison.candidates import Candidate
from experiments.config.resolve import shareable
from experiments.config.schema import TaskConfig
from experiments.preparation.data_check import check_data


class Recorded(str):
    def digest(self, split):
        return self


@pytest.fixture
def candidate(phantom_folder, monkeypatch):
    """Makes a candidate that trained on the phantoms with a seed; its run recorded no digest."""
    monkeypatch.setattr(testing, "read_run", lambda run_id: Recorded(""))

    def make(label, seed, dataset=phantom_folder, split=(0.5, 0.25, 0.25)):
        data = {"dataset": str(dataset), "split": split}
        return Candidate(label, "", label * 32, TaskConfig(task="thyroid", modality="ultrasound", seed=seed, data=data))

    return make


def test_models_of_the_same_split_share_a_whole_test_set(candidate):
    models = [candidate("A", 0), candidate("B", 0)]
    exposed, problems = testing.exposures(models)
    sets, notes = testing.test_sets(models, exposed)
    assert (problems, notes) == ({}, [])
    assert [(each.labels, each.left_out) for each in sets] == [(("A", "B"), 0)]
    checked = check_data(models[0].config)
    assert sets[0].images.digest == checked.whole.subset(checked.splits["test"]).digest


def test_no_image_of_a_patient_that_any_model_has_seen(candidate):
    models = [candidate("A", 0, split=(0.2, 0.2, 0.6)), candidate("B", 0, split=(0.2, 0.4, 0.4))]
    sets, notes = testing.test_sets(models, testing.exposures(models)[0])
    seen = set()
    for model in models:
        checked = check_data(model.config)
        records = checked.whole.records
        seen |= {records[index].patient_id for split in ("train", "val") for index in checked.splits[split]}
    assert (len(sets), notes) == (2, [])
    assert any(each.left_out > 0 for each in sets)
    for each in sets:
        assert not {record.patient_id for record in each.images.records} & seen


def test_who_has_seen_the_test_images_of_the_champion_is_left_out(candidate):
    models = [candidate("A", 0), candidate("B", 2), candidate("C", 0)]
    kept, (note,) = testing.select_comparable(models, testing.exposures(models)[0])
    assert [each.label for each in kept] == ["A", "C"]
    assert note.startswith(
        "left out: run BBBBBBBB: it and run AAAAAAAA have seen too many of one another's test images"
    )


def test_a_model_that_went_on_from_another_is_told(candidate):
    began = candidate("A", 0)
    train = began.config.train.model_copy(update={"weights": "last"})
    went_on = replace(began, label="B", config=began.config.model_copy(update={"train": train}))
    (note,) = testing.initial_weight_notes([began, went_on])
    assert note.endswith("started from last: the images of that training are not excluded")
    assert shareable("/data/Mustermann/best.keras") == "a file"
    assert shareable("models:/mrcnn-ct/2") == "models:/mrcnn-ct/2"
    assert shareable(0.18607950121931327) == "0.18608"


def test_a_copy_under_another_name_is_known_by_its_pixels(candidate, phantom_folder, tmp_path):
    copy = shutil.copytree(phantom_folder, tmp_path / "copy")
    models = [candidate("A", 0), candidate("B", 2, copy)]
    sets, notes = testing.test_sets(models, testing.exposures(models)[0])
    assert sets == []
    assert [note.partition(": ")[2] for note in notes] == [
        "left out, another of the models has trained or validated on all of it"
    ] * 2


def test_data_that_are_gone_or_changed_are_told_in_a_line(candidate, tmp_path, monkeypatch):
    found, problems = testing.exposures([candidate("A", 0, tmp_path / "gone")])
    assert found == {}
    assert list(problems) == ["run AAAAAAAA"] and f"{tmp_path}/gone does not exist" in problems["run AAAAAAAA"]
    monkeypatch.setattr(testing, "read_run", lambda run_id: Recorded("0" * 36))
    found, problems = testing.exposures([candidate("A", 0)])
    assert found == {} and "its run recorded 000000000000: the data have changed" in problems["run AAAAAAAA"]
