import json

import pytest
import yaml

from experiments.config.model_options import DESCRIPTIONS
from experiments.config.overrides import flattened
from experiments.config.resolve import TASKS, options, parameters, resolve, resolved_yaml, task_names
from experiments.config.schema import TaskConfig
from mrcnn.config import ModelConfig
from mrcnn.errors import InputError


def error_of(*arguments: str) -> str:
    with pytest.raises(InputError) as raised:
        resolve(arguments)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def task(tmp_path):
    """Writes a task file; returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "lesion.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_options_go_over_the_profile_and_that_over_the_file(task):
    file = task(
        "task: lesion\nmodality: mri\ntrain: {epochs: 4, batch_size: 3, patience: 2}\n"
        "profiles: {quick: {train: {epochs: 2, batch_size: 1}}}"
    )
    train = resolve(["--task", file, "--profile", "quick", "--epochs", "1"]).config.train
    assert (train.epochs, train.batch_size, train.patience) == (1, 1, 2)


def test_dotted_and_last_names_are_the_same():
    assert resolve(["--train.epochs", "3"]).config == resolve(["--epochs", "3"]).config
    assert "--train.epochs: expected once" in error_of("--train.epochs", "3", "--epochs", "4")


def test_a_value_in_scientific_notation_is_a_number():
    assert resolve(["--learning_rate", "1e-3"]).config.train.learning_rate == 0.001


def test_a_path_is_text_whatever_yaml_makes_of_it():
    assert resolve(["--dataset", "0012"]).config.data.dataset == "0012"
    assert resolve(["--dataset", "null"]).config.data.dataset is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--epochs", "-3"], ["--train.epochs=-3", "greater than or equal to 1"]),
        (["--epochs", "many"], ["--train.epochs='many'", "integer"]),
        (["--optimizer", "adam"], ["--train.optimizer='adam'", "'sgd' or 'adamw'"]),
        (["--confidence", "2"], ["--evaluate.confidence=2", "'auto'", "less than or equal to 1"]),
        (["--epoch", "3"], ["--epoch", "did you mean --epochs?"]),
        (["--image_size", "100"], ["model.image_size", "100", "multiple of 32"]),
        (["--split", "[0.8, 0.3, 0.1]"], ["data.split", "[0.8, 0.3, 0.1]", "sum to 1"]),
        (["--stages", "[{layer: heads}]"], ["--train.stages[0].layer", "did you mean layers?"]),
        (["--stages", "[{layers: top}]"], ["--train.stages[0].layers='top'", "'heads'"]),
        (["--weights", "imagenet"], ["train.weights", "imagenet", "model.backbone=small"]),
        (["--task", "liver"], ["--task liver", "thyroid"]),
        (["--profile", "second"], ["--profile second", "first_system"]),
        (["--split", "[0.8,"], ["--data.split [0.8,", "YAML"]),
    ],
)
def test_errors_name_the_option_the_value_and_what_is_allowed(arguments, parts):
    message = error_of(*arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("task: x\nmodality: X ray\n", ["modality='X ray'", "^[a-z][a-z0-9_]*$"]),
        ("task: x\n", ["modality: missing"]),
        ("task: x\nmodality: ct\ntrian: {}\n", ["trian={}", "did you mean train?"]),
        (
            "task: x\nmodality: ct\ntrain: {epochs: 0, batches: 2}\n",
            ["train.epochs=0", "train.batches=2", "batch_size?"],
        ),
        ("task: x\nmodality: ct\ntrain: 5\n", ["train=5", "dictionary"]),
        ("- a\n", ["mapping"]),
        ("task: [\n", ["YAML"]),
        ("task: x\nmodality: ct\nprofiles: [quick]\n", ["profiles"]),
    ],
)
def test_errors_in_a_file_name_the_file(task, text, parts):
    file = task(text)
    message = error_of("--task", file)
    for part in [file, *parts]:
        assert part in message


def test_a_task_of_ones_own_may_name_a_modality_of_its_own(task):
    assert resolve(["--task", task("task: nuclei\nmodality: microscopy\n")]).config.modality == "microscopy"


def test_every_task_file_and_profile_resolves():
    assert "thyroid" in task_names()
    for path in TASKS.glob("*.yaml"):
        for profile in [None, *(yaml.safe_load(path.read_text(encoding="utf-8")).get("profiles") or {})]:
            chosen = resolve(["--task", path.stem, *(["--profile", profile] if profile else [])])
            assert chosen.config.task == path.stem


def test_a_data_set_without_a_task_is_neutral_and_phantoms_have_a_profile():
    of_phantoms, own = resolve([]), resolve(["--dataset", "my-data"])
    assert (of_phantoms.config.task, of_phantoms.profile) == ("thyroid", "phantoms")
    assert (own.config.task, own.profile, own.config.modality, own.config.findings) == (
        "instances", None, "image", "none",
    )  # fmt: skip
    assert resolve(["--task", "auto", "--dataset", "my-data", "--modality", "ct"]).config.modality == "ct"
    sizes, open_sizes = of_phantoms.config.model, resolve(["--task", "thyroid", "--dataset", "my-data"]).config.model
    assert (sizes.image_size, sizes.backbone) == (256, "small")
    assert (open_sizes.image_size, open_sizes.backbone, open_sizes.nms_iou) == ("auto", "auto", 0.3)
    assert resolve(["--profile", "first_system"]).profile == "first_system"


def test_a_task_of_five_lines_leaves_all_to_the_plan(task):
    config = resolve(
        ["--task", task("task: x\nmodality: ultrasound\ndata:\n  masks:\n    class_names: [a, b]\n")]
    ).config
    assert {config.model.backbone, config.model.image_size, config.train.epochs, config.augment.scale} == {"auto"}


def test_the_first_systems_settings():
    config = resolve(["--profile", "first_system"]).config
    assert (config.model.backbone, config.model.image_size) == ("resnet101", 512)
    assert (config.train.learning_rate, config.train.steps_per_epoch, config.train.epochs) == (0.001, 250, 10)
    assert config.train.stages[0].layers == "heads"
    assert (config.train.optimizer, config.train.momentum, config.train.weights) == ("sgd", 0.9, "imagenet")
    assert config.evaluate.confidence == 0.9
    assert config.data.split == (0.9, 0.1, 0)
    assert resolve(["--profile", "first_system", "--train.weights", "none"]).config.model.norm == "auto"


def test_the_resolved_file_gives_the_same_task_again(tmp_path):
    config = resolve(["--profile", "first_system", "--seed", "7"]).config
    path = tmp_path / "config.yaml"
    path.write_text(resolved_yaml(config), encoding="utf-8")
    assert resolve(["--task", str(path)]).config == config


def test_the_tasks_of_volumes():
    for task in ("brats", "lgg"):
        config = resolve(["--task", task]).config
        assert (config.task, config.modality, config.data.reader, config.evaluate.volumes) == (
            task,
            "mri",
            {"brats": "volumes"}.get(task, task),
            True,
        )
    with pytest.raises(InputError, match=r"evaluate\.metric=volume_dice: expected one of images"):
        resolve(["--metric", "volume_dice"])
    with pytest.raises(InputError, match=r"--data\.volumes\.plane='oblique': expected 'auto', 'axial'"):
        resolve(["--task", "brats", "--plane", "oblique"])
    chosen = resolve(["--task", "brats", "--volumes.classes", "{liver: [1, 2], tumor: 3}", "--window", "[40, 400]"])
    assert chosen.config.data.volumes.classes == {"liver": (1, 2), "tumor": 3}
    assert chosen.config.data.volumes.window == (40, 400)


def test_every_option_is_explained_and_recorded():
    recorded = parameters(resolve([]).config)
    for key, field in options():
        assert field.description, key
        assert key in recorded


def test_every_field_of_the_model_but_its_classes_is_an_option():
    # `data.context_slices` and `data.tile` are options of the data.
    assert {*DESCRIPTIONS, "class_names", "context_slices", "tile"} == set(ModelConfig.model_fields)


def test_every_last_name_is_enough():
    assert len({key.rpartition(".")[2] for key, _ in options()}) == len(list(options()))


LISTS = {
    "[a, b, c]": ("a", "b", "c"), "[a,b,c]": ("a", "b", "c"), "a,b,c": ("a", "b", "c"), "a, b, c": ("a", "b", "c"),
    '["a", "b", "c"]': ("a", "b", "c"), "'a', 'b', 'c'": ("a", "b", "c"), "(a, b, c)": ("a", "b", "c"),
    "left lung, right lung": ("left lung", "right lung"), "[1, 2, 3]": ("1", "2", "3"), "[yes, no]": ("yes", "no"),
    "cell": ("cell",),
}  # fmt: skip


@pytest.mark.parametrize(("text", "classes"), LISTS.items(), ids=list(LISTS))
def test_lists_of_words_in_every_form_and_way(text, classes, tmp_path):
    for words in (["--masks.class_names", text], [f"--masks.class_names={text}"], ["--class_names", text]):
        assert resolve(words).config.data.masks.class_names == classes
    file = tmp_path / "own.yaml"
    as_text = json.dumps(text)  # in quotation marks, a YAML text
    file.write_text(f"task: own\nmodality: mri\ndata:\n  masks:\n    class_names: {as_text}\n", encoding="utf-8")
    assert resolve(["--task", str(file)]).config.data.masks.class_names == classes
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(resolve(["--task", str(file)]).config), encoding="utf-8")
    assert resolve(["--task", str(again)]).config.data.masks.class_names == classes


def test_lists_of_numbers_and_lists_that_may_be_something_else():
    def value(option, text):
        (found,) = (
            value for key, value in flattened(resolve([f"--{option}", text]).config.model_dump()).items()
            if key.endswith(option)
        )  # fmt: skip
        return found

    assert value("split", "0.8, 0.1, 0.1") == value("split", "[0.8,0.1,0.1]") == (0.8, 0.1, 0.1)
    assert value("unet_widths", "16,32") == (16, 32)
    assert (value("spacing_mm", "0.1"), value("spacing_mm", "0.1,0.2"), value("spacing_mm", "null")) == (
        0.1, (0.1, 0.2), None,
    )  # fmt: skip
    assert (value("modalities", "flair,t1"), value("modalities", "null")) == (("flair", "t1"), None)
    assert (value("anchor_ratios", "auto"), value("anchor_ratios", "0.5,1")) == ("auto", (0.5, 1))
    assert [stage["layers"] for stage in value("stages", "[{layers: heads, epochs: 1}, {layers: all}]")] == [
        "heads", "all",
    ]  # fmt: skip
    assert value("flip_swaps", "[[left_lung, right_lung]]") == (("left_lung", "right_lung"),)


def test_a_list_that_the_shell_has_split():
    resolved = resolve(["--masks.class_names", "[a,", "b,", "c]", "--epochs", "3"]).config
    assert (resolved.data.masks.class_names, resolved.train.epochs) == (("a", "b", "c"), 3)
    with pytest.raises(InputError, match=r"'b': expected an option .* a list is one value, as in '\[a, b\]'"):
        resolve(["--masks.class_names", "a", "b"])
    with pytest.raises(InputError, match=r"--data\.split=0\.5: expected a list such as \[a, b\]|--data\.split"):
        resolve(["--split", "0.5"])


def test_configurations_of_version_0_1_are_read():
    section = {"modalities": ["flair", "t1ce"], "label_codes": None, "min_area": 20}
    data = TaskConfig(task="a", modality="mri", data={"reader": "brats", "brats": section}).data
    assert (data.reader, data.volumes.layout, data.volumes.modalities) == ("volumes", "brats", ("flair", "t1ce"))
    assert data.volumes.min_area == 20
    other = TaskConfig(task="a", modality="mri", data={"reader": "coco", "brats": {"modalities": None}}).data
    assert other == TaskConfig(task="a", modality="mri", data={"reader": "coco"}).data
