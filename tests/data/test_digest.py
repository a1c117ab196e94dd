"""A file is read again exactly where it may hold something else."""

import hashlib
import os

import pytest

from mrcnn.data import digest
from mrcnn.data.digest import cached_file_digest, digest_cache, file_digest
from mrcnn.errors import InputError


def sha(text):
    return hashlib.sha256(text).hexdigest()


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were read, in their order; nothing is remembered from before."""
    names, read = [], digest.file_digest
    monkeypatch.setattr(digest, "_known_digests", {})
    monkeypatch.setattr(digest, "file_digest", lambda path: names.append(path.name) or read(path))
    return names


@pytest.fixture
def settled(monkeypatch):
    """Lets files that a test has just written count as old."""
    monkeypatch.setattr(digest, "_SETTLED", -(10**12))


def test_a_file_is_read_once(tmp_path, reads, settled):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    assert [cached_file_digest(file), cached_file_digest(file)] == [sha(b"one")] * 2
    assert reads == ["a"]


@pytest.mark.parametrize("restored", [False, True])
def test_a_changed_file_is_read_again(tmp_path, reads, settled, restored):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    before = file.stat()
    cached_file_digest(file)
    file.write_bytes(b"two")  # as many bytes
    if restored:  # as `cp -p` and archives leave it
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached_file_digest(file) == sha(b"two")


def test_a_file_put_in_anothers_place_is_read_again(tmp_path, reads, settled):
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    os.utime(other, ns=(0, file.stat().st_mtime_ns))
    cached_file_digest(file)
    other.replace(file)
    assert cached_file_digest(file) == sha(b"two")


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, reads, monkeypatch):
    """It may change once more within one step of the file system's clock: the same size, inode and times."""
    file = tmp_path / "a"
    file.write_bytes(b"one")
    stamp = digest._stamp(file)
    monkeypatch.setattr(digest, "_stamp", lambda path: stamp)
    cached_file_digest(file)
    file.write_bytes(b"two")
    assert cached_file_digest(file) == sha(b"two")


def test_digests_outlast_a_run(tmp_path, reads, settled, monkeypatch):
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    files = [folder / name for name in ("mr-smith.png", "b.png")]
    for file in files:
        file.write_bytes(file.name.encode())
    with digest_cache(cache, files):
        assert [cached_file_digest(file) for file in files] == [sha(file.name.encode()) for file in files]
    monkeypatch.setattr(digest, "_known_digests", {})
    reads.clear()
    files[1].write_bytes(b"new")
    with digest_cache(cache, files):
        assert [cached_file_digest(file) for file in files] == [sha(b"mr-smith.png"), sha(b"new")]
    assert reads == ["b.png"]
    (kept,) = cache.iterdir()
    assert b"smith" not in kept.read_bytes()
    monkeypatch.setattr(digest, "_known_digests", {})
    kept.write_text('{"x": 3')
    with digest_cache(cache, files):
        assert cached_file_digest(files[0]) == file_digest(files[0])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        cached_file_digest(tmp_path / "none")
