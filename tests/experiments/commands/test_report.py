"""The command that makes a report again, and its PDF."""

import re

import pytest

from experiments.commands import report
from experiments.commands.report import main, print_pdf
from mrcnn.errors import InputError

RUN = "0" * 32


def test_chromium_prints_the_pages(tmp_path):
    try:
        browser = report.find_browser()
    except InputError:
        pytest.skip("no Chromium")
    (tmp_path / "page.html").write_text("<p>one</p><p style='break-before: page'>two</p>", encoding="utf-8")
    print_pdf(browser, tmp_path / "page.html", tmp_path / "page.pdf")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF-") and len(re.findall(rb"/Type /Page\b", printed)) == 2


def test_a_browser_that_fails(tmp_path):
    (tmp_path / "page.html").write_text("<p>one</p>", encoding="utf-8")
    with pytest.raises(InputError, match="false wrote no file: exit status 1"):
        print_pdf("false", tmp_path / "page.html", tmp_path / "page.pdf")
    assert not (tmp_path / "page.pdf").exists()


def test_what_is_missing_has_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "BROWSERS", ("no-such-browser",))
    for words, message in (
        ([RUN, "--format", "pdf"], "--format pdf: no Chromium or Google Chrome on PATH; install one"),
        (["thyroid"], "run=thyroid: expected a run's id, runs:/<id>, or last"),
        ([RUN, "--output", "none/report.html"], "none does not exist"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
