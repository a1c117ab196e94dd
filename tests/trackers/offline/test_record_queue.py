import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackers.checkpoints.checkpoint_store import CheckpointNotSaved
from trackers.offline.record_queue import LINES, DamagedQueue, RecordQueue


def test_records_come_back_in_order_with_copies_of_their_files(tmp_path):
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "b.txt").write_text("second")
    journal = RecordQueue(tmp_path / "journal")
    journal.append({"kind": "artifact"}, tmp_path / "a.txt")
    journal.append({"kind": "tags", "values": {"ñ": "ö\n"}})
    journal.append({"kind": "artifact"}, tmp_path / "folder")
    (tmp_path / "a.txt").write_text("changed since")
    again = RecordQueue(tmp_path / "journal")
    file, tags, folder = again.pending()
    assert [record["seq"] for record in (file, tags, folder)] == [1, 2, 3]
    assert again.path(file).read_text() == "first"
    assert (again.path(tags), tags["values"]) == (None, {"ñ": "ö\n"})
    assert (again.path(folder) / "below" / "b.txt").read_text() == "second"
    again.delivered(file)
    assert RecordQueue(tmp_path / "journal").pending() == [tags, folder]
    assert not again.path(file).exists()
    assert again.append({"kind": "end"})["seq"] == 4


@settings(max_examples=20)
@given(cut=st.integers(1, 200))
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path_factory, cut):
    journal = RecordQueue(tmp_path_factory.mktemp("torn"))
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
    journal = RecordQueue(tmp_path)
    journal.append({"number": 0})
    journal.append({"number": 1})
    _, second = (tmp_path / LINES).read_bytes().splitlines(keepends=True)
    (tmp_path / LINES).write_bytes(line + b"\n" + second)
    with pytest.raises(DamagedQueue, match=r"journal\.jsonl: line 1 is not what was written"):
        journal.pending()


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    journal = RecordQueue(tmp_path / "journal")
    journal.append({"number": 0})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CheckpointNotSaved, match=r"cannot be saved \(No space left on device\)"):
            journal.append({"number": 1})
    assert [record["number"] for record in journal.pending()] == [0]
    journal.append({"number": 2})
    assert [(record["seq"], record["number"]) for record in journal.pending()] == [(1, 0), (2, 2)]


def test_a_record_costs_the_same_however_many_wait(tmp_path, monkeypatch):
    """Bytes that are read for the next record: of a journal of 2000 no more than of one of 20."""
    read, opened = {}, open

    def counting(file, mode="r", *rest, **named):
        stream = opened(file, mode, *rest, **named)
        if str(file).endswith(LINES) and "r" in mode:
            whole = stream.read

            def count(*size):
                found = whole(*size)
                read[many] = read.get(many, 0) + len(found)
                return found

            stream.read = count
        return stream

    monkeypatch.setattr(os, "fsync", lambda _: None)
    for many in (20, 2000):
        journal = RecordQueue(tmp_path / str(many))
        journal.folder.mkdir()
        lines = (json.dumps({"seq": number, "kind": "tags"}) + "\n" for number in range(1, many + 1))
        (journal.folder / LINES).write_text("".join(lines))
        assert journal.waiting() == many
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", counting)
            for _ in range(5):
                journal.append({"kind": "tags"})
                assert journal.waiting()
        assert journal.pending()[-1]["seq"] == many + 5
    assert abs(read[2000] - read[20]) <= 5 * len("2000")


def test_the_file_is_emptied_when_all_is_delivered_and_the_numbers_go_on(tmp_path):
    journal = RecordQueue(tmp_path)
    for _ in range(3):
        last = journal.append({"kind": "tags"})
    journal.delivered(last)
    assert ((tmp_path / LINES).stat().st_size, journal.waiting(), journal.pending()) == (0, 0, [])
    again = RecordQueue(tmp_path)
    assert [journal.append({"kind": "tags"})["seq"], again.append({"kind": "tags"})["seq"]] == [4, 5]
    assert [record["seq"] for record in RecordQueue(tmp_path).pending()] == [4, 5]
    # Killed between the mark and the emptying: nothing is delivered a second time.
    (tmp_path / "delivered.json").write_text('{"seq": 5}')
    assert RecordQueue(tmp_path).pending() == []
    assert RecordQueue(tmp_path).append({"kind": "tags"})["seq"] == 6


def test_a_damaged_mark_is_told(tmp_path):
    journal = RecordQueue(tmp_path)
    journal.append({"kind": "tags"})
    (tmp_path / "delivered.json").write_text("{")
    with pytest.raises(DamagedQueue, match=r"delivered\.json: expected the number of the last record"):
        journal.pending()
