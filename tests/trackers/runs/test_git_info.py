import subprocess

import pytest

from trackers.runs.environment import COMMIT, git_tags


def git(folder, *arguments):
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *author, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def code(tmp_path):
    git(tmp_path, "init", "-q")
    file = tmp_path / "code.py"
    file.write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    return file


def test_a_clean_checkout(code):
    (code.parent / "mlflow.db").write_text("a run's own output does not make it dirty")
    assert git_tags(code) == {COMMIT: git(code.parent, "rev-parse", "HEAD"), "git_dirty": "false"}


def test_a_changed_file_is_dirty(code):
    code.write_text("a = 2\n")
    assert git_tags(code)["git_dirty"] == "true"


def test_installed_code_inside_somebodys_checkout_has_no_commit(code):
    installed = code.parent / ".venv" / "run.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert git_tags(installed) == {}


def test_no_checkout_or_no_git(tmp_path, code, monkeypatch):
    assert git_tags(tmp_path / "missing" / "run.py") == {}
    monkeypatch.setenv("PATH", "")
    assert git_tags(code) == {}
