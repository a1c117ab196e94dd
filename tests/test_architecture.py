"""Rules of the code base as a whole: imports, layout, what may execute, dependencies."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGES = ("mrcnn", "trackers", "experiments", "sweeps")
MAY_IMPORT = {
    "mrcnn": {"mrcnn"},
    "trackers": {"trackers", "mrcnn"},
    "experiments": {"experiments", "trackers", "mrcnn"},
    "sweeps": {"sweeps", "experiments", "trackers", "mrcnn"},
}
MODULES = sorted(path for room in PACKAGES for path in (ROOT / room).rglob("*.py"))
LIGHT = ("mrcnn.data", "mrcnn.metrics", "mrcnn.phantoms", "mrcnn.inference.drawing")
HEAVY = ("keras", "tensorflow", "jax", "torch")
EXECUTING = {"pickle", "_pickle", "cloudpickle", "marshal", "shelve", "dill", "joblib"}
"""Modules whose files run what they say when they are read."""
PIPES = {
    "mrcnn/data/loading/cache.py",
    "mrcnn/data/loading/worker_pool.py",
    "mrcnn/data/loading/worker.py",
}
"""What a process sends to workers of its own, through pipes and memory that nobody else has."""
BARRED = {
    "eval", "exec", "__import__", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all",
    "yaml.safe_load", "yaml.unsafe_load", "yaml.unsafe_load_all", "torch.load", "os.system", "os.popen", "np.loads",
    "keras.config.enable_unsafe_deserialization",
}  # fmt: skip
"""`yaml.safe_load` among them: it is not safe from aliases, `mrcnn.safe_yaml` is."""
ON_REQUEST = {"torch"}
"""What a message asks for where it is missing: Optuna's Gaussian processes need it, and it weighs a gigabyte."""
MAX_FILES = 17
VAGUE = {"utils", "helpers", "common", "base", "manager"}


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names.add(node.module)
    return names


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """Each module of the product with those of its modules that it imports, also within functions."""
    names = {module_name(path): path for path in MODULES}
    graph = {}
    for name, path in names.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= (full & names.keys()) or {node.module}
        graph[name] = found & names.keys() - {name}
    return graph


def test_packages_import_only_what_stands_below_them_and_in_no_circle():
    graph = import_graph()
    wrong = {
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if other.split(".")[0] not in MAY_IMPORT[name.split(".")[0]]
    }
    assert not wrong
    while leaves := {name for name, others in graph.items() if not others}:
        graph = {name: others - leaves for name, others in graph.items() if name not in leaves}
    assert not graph, "imports in a circle, or what imports one"


def test_folders_and_names_keep_to_the_layout():
    sizes = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {folder: size for folder, size in sizes.items() if size > MAX_FILES} == {}
    assert not [path for path in MODULES if VAGUE & {path.stem, path.parent.name}]


def executes(path: Path) -> list[str]:
    """What in a file could run what somebody else's file says."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    if path.relative_to(ROOT).as_posix() not in PIPES:
        found += sorted({name.split(".")[0] for name in imported(path)} & EXECUTING)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [name.name for name in node.names if f"{node.module}.{name.name}" in BARRED]
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        if called in BARRED or given.get("allow_pickle", "False") != "False" or "shell" in given:
            found.append(ast.unparse(node))
        if called.endswith("load_model") and "keras" in called and given.get("safe_mode") != "True":
            found.append(ast.unparse(node))
    return found


def test_nothing_is_executed_that_a_file_says():
    files = [*MODULES, *(ROOT / "benchmarks").rglob("*.py")]
    assert {path: found for path in files if (found := executes(path))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from marshal import loads", "import yaml\nyaml.load(text)", "from torch import load",
        "np.load(file, allow_pickle=True)", "eval(text)", "subprocess.run(text, shell=True)",
        "keras.models.load_model(path)", "keras.saving.load_model(path, safe_mode=False)",
    ],
)  # fmt: skip
def test_what_executes_is_seen(code, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "made.py").write_text(code)
    assert executes(tmp_path / "made.py")


def test_worker_processes_start_without_a_deep_learning_framework_and_without_their_own_program():
    absent = (*HEAVY, "mrcnn.data.loading.worker")  # imported before it runs, `python -m` warns
    code = f"import sys, {', '.join(LIGHT)}; print(*[name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_conda_and_pip_install_the_same():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    python, pip = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))["dependencies"]
    assert python == "python=3.11"
    assert pip == {"pip": wanted}
    assert any(each.startswith("mlflow") for each in wanted)


def test_what_is_imported_is_declared():
    """Distributions by the names of what they install; what comes with another only may go with its next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    stated = {
        plain(each) for each in (*project["dependencies"], *(one for listed in extras.values() for one in listed))
    }
    installed = packages_distributions()
    undeclared = {}
    for path in MODULES:
        for name in {name.partition(".")[0] for name in imported(path)} - {
            *PACKAGES,
            *sys.stdlib_module_names,
            *ON_REQUEST,
        }:
            if not stated & {plain(each) for each in (name, *installed.get(name, ()))}:
                undeclared.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert undeclared == {}


def plain(requirement: str) -> str:
    """The name of a distribution as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def test_the_project_runs_the_command_with_the_task_alone():
    project = yaml.safe_load((ROOT / "mlproject").read_text(encoding="utf-8"))
    assert project["conda_env"] == "conda.yaml"
    assert list(project["entry_points"]["main"]["parameters"]) == ["task"]


def test_no_file_names_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    machine = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w")
    for name in listed:
        path = ROOT / name
        # Tests may make up addresses to take apart.
        if path.is_file() and not name.startswith("tests/") and path.suffix not in {".png", ".jpg", ".webp", ".keras"}:
            found = machine.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found.group()}"
