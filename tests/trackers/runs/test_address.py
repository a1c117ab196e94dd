import shlex

import pytest

from trackers.runs.address import hide_credentials, how_to_open, run_url


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://ann:secret@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        ("postgresql+psycopg2://ann:s@c/r:t@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("https://token@host/path", "https://***@host/path"),
        ("postgresql://db/mlflow?user=ann&password=secret&ssl=1", "postgresql://db/mlflow?user=ann&password=***&ssl=1"),
        ("could not reach https://ann:secret@host: timeout", "could not reach https://***@host: timeout"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("sqlite+pysqlite:////home/me@work/mlflow.db", "sqlite+pysqlite:////home/me@work/mlflow.db"),
        ("http://host:5000 asked by me@work", "http://host:5000 asked by me@work"),
    ],
)
def test_credentials_are_hidden_and_nothing_else(uri, shown):
    assert hide_credentials(uri) == shown


def test_a_server_is_opened_at_the_run():
    where = how_to_open("https://ann:secret@host:8443/mlflow/", "7", "abc")
    assert where == "https://host:8443/mlflow/#/experiments/7/runs/abc"
    assert run_url("https://ann:secret@host:8443/mlflow/", "7", "abc") == where


def test_a_file_is_opened_by_a_command_that_a_shell_reads_back():
    command = how_to_open("sqlite:////home/my studies/mlflow.db", "7", "abc")
    expected = ["mlflow", "ui", "--backend-store-uri", "sqlite:////home/my studies/mlflow.db", "--port", "5000"]
    assert shlex.split(command) == expected
    assert run_url("sqlite:////x/mlflow.db", "7", "abc") == "http://127.0.0.1:5000/#/experiments/7/runs/abc"


def test_a_relative_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert how_to_open("sqlite:///mlflow.db", "7", "abc") == (
        f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db --port 5000"
    )


def test_a_database_with_a_password_is_named_by_its_variable():
    command = how_to_open("postgresql://ann:secret@db/mlflow", "7", "abc")
    assert command == 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI" --port 5000'
