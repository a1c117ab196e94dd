import pytest

from experiments.commands.pretrain import command, main
from experiments.commands.train import main as train_main
from mrcnn.errors import InputError


def test_more_and_more_varied_phantoms_than_in_a_first_training():
    resolved, _ = command.parse(["--task", "lung"])
    config = resolved.config
    assert resolved.profile is None and config.model.image_size == config.train.epochs == "auto"
    assert (config.data.phantoms, config.data.phantom_images, config.data.split) == ("lung", 960, (0.9, 0.1, 0))
    # What the anatomy says stays.
    assert (config.augment.rotate_degrees, config.augment.contrast) == (7, 0.5)
    config = command.parse(["--phantom_images", "30", "--contrast", "0.1"])[0].config
    assert (config.task, config.data.phantom_images, config.augment.contrast) == ("thyroid", 30, 0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "mine"], "data.dataset=mine: expected null in a pretraining; it makes phantoms"),
        (["--folds", "3"], "data.folds=3: expected null in a pretraining; it trains one network"),
        (["--seeds", "2"], "train.seeds=2: expected null in a pretraining; it trains one network"),
        (["--resume", "no"], "--resume no: expected auto or the id"),
    ],
)
def test_options_of_other_trainings_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        command.parse(words)


@pytest.mark.slow
def test_a_training_starts_from_the_pretrained_network(store, phantom_folder, tiny_arguments, capsys):
    assert main(tiny_arguments(phantom_images=10, image_size=96)) == 0
    printed = capsys.readouterr().out
    assert (
        "pretraining; run " in printed and "Registered pretrained-ultrasound version 1: validation mask_ap" in printed
    )
    version = store.get_model_version("pretrained-ultrasound", "1")
    run = store.get_run(version.run_id)
    assert run.info.status == "FINISHED" and run.data.tags["model"] == "pretrained"
    assert run.info.run_name.endswith(", pretraining")
    assert "pretrained.keras" in str(store.list_artifacts(run.info.run_id, "pretrained"))

    weights = "models:/pretrained-ultrasound/latest"
    assert train_main(tiny_arguments(dataset=phantom_folder, weights=weights, image_size=64)) == 0
    assert f"Weights from {weights}: " in capsys.readouterr().out
    assert {each.name for each in store.search_registered_models()} == {"pretrained-ultrasound", "mrcnn-ultrasound"}
