import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rankwell.atomic import sweep, write_atomically, write_folder, write_text
from rankwell.errors import RunError


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_writes_and_makes_folders(tmp_path):
    target = tmp_path / "a" / "b" / "c.txt"
    write_text(target, "schön\n")
    assert target.read_bytes() == "schön\n".encode()
    assert listing(target.parent) == ["c.txt"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_the_temporary_path_keeps_the_name(tmp_path):
    """Libraries choose the format by the suffix."""
    with write_atomically(tmp_path / "picture.png") as temporary:
        assert temporary.name == "picture.png" and temporary.parent.parent == tmp_path
        temporary.write_bytes(b"x")
    assert listing(tmp_path) == ["picture.png"]


class Halfway(Exception):
    pass


@pytest.mark.parametrize("error", [Halfway("no"), OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "x.txt"
    write_text(target, "old")

    def fails() -> None:
        with write_atomically(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises((Halfway, RunError)) as caught:
        fails()
    if isinstance(error, OSError):
        assert str(caught.value).startswith(f"cannot write {target}: No space left on device. Nothing was changed")
    assert target.read_text() == "old" and listing(tmp_path) == ["x.txt"]


def test_a_librarys_own_error_counts_where_it_is_named(tmp_path):
    with (
        pytest.raises(RunError, match=r"cannot write .*x.txt: disk full. Nothing was changed"),
        write_atomically(tmp_path / "x.txt", Halfway),
    ):
        raise Halfway("disk\n full")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_no_space_at_the_last_moment(tmp_path, monkeypatch, at):
    target = tmp_path / "x.txt"
    write_text(target, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((os, "fsync", full) if at == "fsync" else (Path, "replace", full)))
    with pytest.raises(RunError, match="No space left on device"):
        write_text(target, "new")
    assert target.read_text() == "old" and listing(tmp_path) == ["x.txt"]


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file.x.txt: "):
        write_text(tmp_path / "file" / "x.txt", "new")


KILLED = """
import os, signal, sys
from pathlib import Path
from rankwell.atomic import write_text
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(*((os, "fsync", kill) if sys.argv[2] == "fsync" else (Path, "replace", kill)))
write_text(Path(sys.argv[1]), "new")
"""


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_killed_writer_leaves_the_old_file_and_what_sweep_removes(tmp_path, at):
    target = tmp_path / "x.txt"
    write_text(target, "old")
    child = subprocess.run([sys.executable, "-c", KILLED, str(target), at], check=False)
    assert child.returncode == -signal.SIGKILL
    assert target.read_text() == "old" and len(listing(tmp_path)) == 2
    sweep(tmp_path)
    assert listing(tmp_path) == ["x.txt"]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with write_folder(tmp_path / "deep" / "model") as folder:
        (folder / "part").mkdir()
        (folder / "part" / "a").write_text("x")
        assert not (tmp_path / "deep" / "model").exists()
    assert (tmp_path / "deep" / "model" / "part" / "a").read_text() == "x"
    with pytest.raises(RunError, match="exists"), write_folder(tmp_path / "deep" / "model"):
        pass
    with pytest.raises(ZeroDivisionError), write_folder(tmp_path / "other"):
        raise ZeroDivisionError
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"), write_folder(tmp_path / "file" / "model"):
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", "file"]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["model"]
