import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackers.journal import LINES, DamagedJournal, Journal
from trackers.kept_states import NotKept


def test_records_come_back_in_order_with_copies_of_their_files(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "b.txt").write_text("second")
    journal = Journal(tmp_path / "journal")
    journal.append({"kind": "artifact"}, tmp_path / "a.txt")
    journal.append({"kind": "tags", "values": {"ñ": "ö\n"}})
    journal.append({"kind": "artifact"}, tmp_path / "folder")
    (tmp_path / "a.txt").write_text("changed since")
    again = Journal(tmp_path / "journal")
    file, tags, folder = again.pending()
    assert [record["seq"] for record in (file, tags, folder)] == [1, 2, 3]
    assert again.path(file).read_text() == "first"
    assert (again.path(tags), tags["values"]) == (None, {"ñ": "ö\n"})
    assert (again.path(folder) / "below" / "b.txt").read_text() == "second"
    again.delivered(file)
    assert Journal(tmp_path / "journal").pending() == [tags, folder]
    assert not again.path(file).exists()
    assert again.append({"kind": "end"})["seq"] == 4


@settings(max_examples=20)
@given(cut=st.integers(1, 200))
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path_factory, cut):
    journal = Journal(tmp_path_factory.mktemp("torn"))
    for number in range(3):
        journal.append({"number": number})
    path = journal.folder / LINES
    whole = path.read_bytes()
    last = json.dumps({"seq": 4, "number": "x" * 190}).encode()
    path.write_bytes(whole + last[:cut])
    assert [record["number"] for record in journal.pending()] == [0, 1, 2]
    journal.append({"number": 3})
    assert [(record["seq"], record["number"]) for record in journal.pending()] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("line", [b"{", b'{"seq": 7}', b"[]", b"\xff"])
def test_damage_before_the_last_line_is_told(tmp_path, line):
    journal = Journal(tmp_path)
    journal.append({"number": 0})
    journal.append({"number": 1})
    _, second = (tmp_path / LINES).read_bytes().splitlines(keepends=True)
    (tmp_path / LINES).write_bytes(line + b"\n" + second)
    with pytest.raises(DamagedJournal, match=r"journal\.jsonl: line 1 is not what was written"):
        journal.pending()


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal")
    journal.append({"number": 0})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(NotKept, match=r"cannot be kept \(No space left on device\)"):
            journal.append({"number": 1})
    assert [record["number"] for record in journal.pending()] == [0]
    journal.append({"number": 2})
    assert [(record["seq"], record["number"]) for record in journal.pending()] == [(1, 0), (2, 2)]
