"""Every command and option that the pages quote, parsed as the program parses it, without the work."""

import ast
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from experiments.commands import (
    baselines,
    check,
    compare,
    convert,
    demo,
    evaluate,
    export,
    plan,
    predict,
    prepare,
    pretrain,
    report,
    suggest,
    sync,
    train,
)
from experiments.config.resolve import TASKS, resolve
from mrcnn.errors import InputError
from sweeps import command as sweep

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PRODUCT = ("mrcnn", "trackers", "experiments", "sweeps")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENTRY_POINTS = yaml.safe_load((ROOT / "mlproject").read_text(encoding="utf-8"))["entry_points"]
PLACES = {"<name>": "thyroid", "<precision>": "auto", "<run>": "0" * 32, "<run id>": "0" * 32, "<id>": "0" * 32}
"""What stands for a placeholder; for any other a folder does."""
STARTS = re.compile(r"(?:^|=\w+ )(mrcnn [a-z]|mlflow run|python -m (?:exp|sweeps|bench)|--[a-z]|-P )")
IN_CONTAINER = re.compile(r"^.*\bdocker (?:run .* medmrcnn(?::\w+)?|compose .* run --rm(?= train)) ")
"""Start of a command whose rest the image hands to `mrcnn`."""
MLFLOW = {"--env-manager", "--experiment-name"}
OTHERS = {"--no-serve-artifacts", "--artifacts-destination", "--allowed-hosts", "--timeout"}
"""Options of `mlflow server` and `mlflow models serve` of which pages speak by themselves."""


COMMANDS = {
    "baselines": baselines, "check": check, "compare": compare, "convert": convert, "demo": demo,
    "evaluate": evaluate, "export": export, "plan": plan, "predict": predict, "prepare": prepare,
    "pretrain": pretrain, "report": report, "suggest": suggest, "sweep": sweep, "sync": sync, "train": train,
}  # fmt: skip
BEFORE = (
    ("train", []), ("train", ["--profile", "from_coco"]), ("sweep", []), ("compare", ["--modality", "mri"]),
    ("baselines", []), ("predict", ["last", "folder", "--output", "x"]), ("export", ["last"]), ("demo", ["last"]),
    ("evaluate", ["last", "folder"]), ("report", ["last"]),
)  # fmt: skip
"""Commands that an option by itself may belong to, and what each needs besides."""


def quoted(text: str) -> list[str]:
    """Commands and options in blocks of code and in code within a line, one each."""
    spans = [line for _, body in FENCE.findall(text) for line in body.replace("\\\n", " ").splitlines()]
    spans += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
    found = []
    for span in spans:
        for place, value in PLACES.items():
            span = span.replace(place, value)
        span = re.sub(r"<[^<>]+>", "folder", span)
        span = IN_CONTAINER.sub("mrcnn ", span).replace(" /data", " my-data")
        for part in span.split(" && "):
            if found_at := re.search(
                r"(?:^|=\w+ )(mrcnn [a-z]|mlflow run|python -m (?:exp|sweeps|bench)|--[a-z]|-P )", part
            ):
                found.append(part[found_at.start(1) :])
    return found


def parse(words: list[str]) -> None:
    """Parses a command. Raises `InputError` or `SystemExit` where the program would refuse it."""
    match words:
        case ["mrcnn", command, *rest]:
            parse_command(command, rest[: rest.index("--help")] if "--help" in rest else rest)
        case ["mlflow", "run", *rest]:
            parse_command(*of_mlflow(rest))
        case ["python", "-m", module, *rest] if module.startswith("benchmarks."):
            parse_benchmark(module, rest)
        case ["python", "-m", "sweeps.worker", job]:
            assert job.endswith(".json")
        case ["python", "-m", module, *rest]:
            parse_command(module.removeprefix("experiments.").removeprefix("commands."), rest)


def parse_command(command: str, words: list[str]) -> None:
    if not words and command not in ("train", "sweep", "check", "plan", "pretrain"):
        known = "baselines compare convert demo evaluate export predict prepare report suggest sync"
        assert command in known.split()
        return
    match command:
        case "export" if "--to" not in words:
            export.command.parse([*words, "--to", "onnx"])
        case _:
            COMMANDS[command].command.parse(words)


def of_mlflow(words: list[str]) -> tuple[str, list[str]]:
    """The command that `mlflow run` makes of its entry point and parameters, and its words."""
    entry, given, rest = "main", {}, iter(words)
    for word in rest:
        match word:
            case "-e":
                entry = next(rest)
            case "-P":
                key, equals, value = next(rest).partition("=")
                assert equals
                given[key] = value
            case ".":
                pass
            case _:
                assert word in MLFLOW, f"mlflow run {word}"
                next(rest)
    point = ENTRY_POINTS[entry]
    for key, stated in point.get("parameters", {}).items():
        if key not in given and isinstance(stated, dict):
            given[key] = stated["default"]
    made = shlex.split(point["command"].format_map({key: shlex.quote(value) for key, value in given.items()}))
    named = {key for key in given if f"{{{key}}}" in point["command"]}
    made += [word for key in given.keys() - named for word in (f"--{key}", given[key])]
    commands = {"experiments": lambda name: name.removeprefix("commands."), "sweeps": lambda _: "sweep"}
    package, _, name = made[2].partition(".")
    return commands[package](name), made[3:]


def parse_benchmark(module: str, words: list[str]) -> None:
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if "argparse" not in source.read_text(encoding="utf-8"):  # those that take the options of a training
        own = {"--folds"} if module == "benchmarks.ensemble" else set()
        words = [part for word in words for part in (("--" + word).split("=", 1) if "=" in word else (word,))]
        pairs = zip(words[::2], words[1::2], strict=True)
        resolve([word for pair in pairs if pair[0] not in own for word in pair])
        return
    # By their text: most import a backend before they parse anything. One hands further options on to a sweep.
    text = source.read_text(encoding="utf-8")
    for at, word in enumerate(words):
        if word.startswith("--") and f'"{word}"' not in text:
            assert "parse_known_args" in text, f"{module} {word}"
            sweep.command.parse(words[at : at + 2])


@pytest.fixture
def standing(tmp_path, monkeypatch):
    """A working folder with all that the commands name: data sets, and task files of one's own."""
    for name in ("folder", "lgg", "my-data", "scans"):
        (tmp_path / name).mkdir()
    for name in ("splits", "splits_final"):
        (tmp_path / f"{name}.json").write_text("{}", encoding="utf-8")
    for name in ("nuclei", "my-task", "best", "config"):
        shutil.copy(TASKS / "thyroid.yaml", tmp_path / f"{name}.yaml")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_quoted_commands_and_options_are_known(page, standing):
    refused = []
    for span in quoted(page.read_text(encoding="utf-8")):
        words = [word.replace("$PWD/", "") for word in shlex.split(span, comments=True)]
        try:
            if words[0].startswith("-"):
                parse_option(words)
            else:
                parse(complete(words) if "…" in span else words)
        except (InputError, SystemExit, AssertionError, KeyError) as error:
            refused.append(f"{span}: {error}")
    assert not refused


def complete(words: list[str]) -> list[str]:
    """Words without the options whose value is left open, and with what every prediction has to name."""
    words = [word for at, word in enumerate(words) if not (word.startswith("--") and words[at + 1 : at + 2] == ["…"])]
    if "predict" in words:
        words += ["-P", "model=last", "-P", "output=found"]
    return [word for word in words if word != "…"]


def parse_option(words: list[str]) -> None:
    """Parses options that stand by themselves, as each command that could take them; one has to."""
    if words[0] == "-P":
        words = [part for word in words if word != "-P" for part in ("--" + word).split("=", 1)]
    if "--modality" in words:  # by itself it belongs to no training
        parse_command("compare", words)
        return
    if words[0] in OTHERS | MLFLOW | {"--help"}:
        return
    name, value = words[0].removeprefix("--"), words[1:] or None
    errors = []
    for command, before in BEFORE:
        try:
            if value is None or "…" in value[0]:
                parse_command(command, [*before, f"--{name}", "\0"])
            else:
                parse_command(command, [*before, *words])
            return
        except InputError as error:
            errors.append(str(error))
            # Without a value to try, it is enough that the option is known.
            if (value is None or "…" in value[0]) and "no such option" not in str(error):
                return
    for path in ROOT.glob("benchmarks/*.py"):
        if f'"{words[0]}"' in path.read_text(encoding="utf-8"):
            return
    raise InputError(errors[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_task_files_in_pages_are_valid(page, tmp_path):
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "yaml" and re.search("^task:", body, re.MULTILINE):
            (tmp_path / "task.yaml").write_text(body, encoding="utf-8")
            assert resolve(["--task", str(tmp_path / "task.yaml")]).config.task


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_links_lead_to_files_of_the_project(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert [name for name in targets if "://" not in name and not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"\btests/[\w/]+(?:\.py)?", text)
    files += [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks\.\w+)", text)]
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_messages_name_pages_that_exist():
    sources = [path for folder in PRODUCT for path in (ROOT / folder).rglob("*")]
    named = {
        (name, path.name)
        for path in sources
        if path.suffix in (".py", ".yaml", ".html")
        for name in re.findall(r"docs/[\w/-]+\.\w+", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [each for each in named if not (ROOT / each[0]).is_file()] == []


def texts_of_the_program() -> list[str]:
    """Every text of the product, with … for what it inserts."""
    found = []
    for path in (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return [" ".join(text.split()) for text in found]


def test_messages_of_the_troubleshooting_page_are_those_of_the_program():
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted_messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    texts = texts_of_the_program()
    of_others = {"Killed", "val AP 0.000"}
    unknown = [
        message for message in quoted_messages
        if message not in of_others
        and not any(all(part.strip() in text for part in message.split("…")) for text in texts)
    ]  # fmt: skip
    assert len(quoted_messages) > 40
    assert unknown == []


def test_what_is_wrong_is_seen(standing):
    for wrong in ("mrcnn train --epocs 3", "mrcnn train --masks.instances piece", "mlflow run . -P epochs=many",
                  "mlflow run . -e compare -P modalitie=mri", "python -m benchmarks.soak --epoch_count 3",
                  "mrcnn predict last folder --output x --write jpg", "mrcnn trian --task lgg",
                  "docker run --rm -v $PWD/my-data:/data medmrcnn:gpu train --datasett /data"):  # fmt: skip
        (found,) = quoted(f"`{wrong}`")
        assert found in (wrong, "mrcnn train --datasett my-data")
        with pytest.raises((InputError, SystemExit, AssertionError, KeyError)):
            parse(shlex.split(found))
    with pytest.raises(InputError):
        parse_option(["--on_error", "ignore"])
