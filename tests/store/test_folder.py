"""The state folder: private whatever the umask, one bot at a time, refused with a remedy."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tbot.errors import ConfigError, StateCorrupt
from tbot.store.folder import StateFolder, create_private, file_complaint, folder_complaint, fsync_latency_s

HOLDER = """
import sys
from pathlib import Path
from tbot.store.folder import StateFolder
StateFolder.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def found(mode: int, uid: int = 7) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_new_folder_and_files_are_private_under_any_umask(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        folder = StateFolder.open(tmp_path / "state")
        create_private(folder.path / "file")
    finally:
        os.umask(previous)
    folder.close()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("mode", "uid", "is_writable", "words"),
    [
        (stat.S_IFDIR | 0o700, 7, True, ""),
        (stat.S_IFREG | 0o700, 7, True, "is not a folder"),
        (stat.S_IFDIR | 0o700, 8, True, "belongs to user 8, not to you (7)"),
        (stat.S_IFDIR | 0o750, 7, True, "chmod 700 '/a b'"),
        (stat.S_IFDIR | 0o701, 7, True, "chmod 700 '/a b'"),
        (stat.S_IFDIR | 0o500, 7, True, "is not writable"),
        (stat.S_IFDIR | 0o700, 7, False, "is not writable"),
    ],
)
def test_folder_that_is_not_privately_ours_is_refused_with_the_remedy(
    mode: int, uid: int, is_writable: bool, words: str
) -> None:
    complaint = folder_complaint(Path("/a b"), found(mode, uid), 7, is_writable=is_writable)
    assert words in complaint
    assert bool(complaint) == bool(words)


@pytest.mark.parametrize(
    ("mode", "uid", "words"),
    [
        (stat.S_IFREG | 0o600, 7, ""),
        (stat.S_IFIFO | 0o600, 7, "is not a regular file"),
        (stat.S_IFREG | 0o600, 8, "belongs to user 8"),
        (stat.S_IFREG | 0o640, 7, "chmod 600 /f"),
        (stat.S_IFREG | 0o400, 7, "chmod 600 /f"),
    ],
)
def test_file_that_is_not_privately_ours_is_refused_with_the_remedy(mode: int, uid: int, words: str) -> None:
    complaint = file_complaint(Path("/f"), found(mode, uid), 7)
    assert words in complaint
    assert bool(complaint) == bool(words)


def test_dangling_link_is_no_folder() -> None:
    assert "is not a folder" in folder_complaint(Path("/x"), None, 7, is_writable=False)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    with pytest.raises(StateCorrupt, match="is not a folder"):
        StateFolder.open(tmp_path / "state")
    with pytest.raises(StateCorrupt, match="cannot be created"):
        StateFolder.open(tmp_path / "state" / "below")


def test_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(StateCorrupt, match="chmod 700"):
        StateFolder.open(tmp_path)
    tmp_path.chmod(0o700)


def test_second_bot_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    first = StateFolder.open(tmp_path)
    with pytest.raises(ConfigError, match="in use by another tbot"):
        StateFolder.open(tmp_path)
    first.close()
    first.close()
    StateFolder.open(tmp_path).close()


@pytest.mark.slow
def test_lock_of_another_process_holds_and_ends_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match="in use"):
            StateFolder.open(tmp_path)
        holder.kill()
    StateFolder.open(tmp_path).close()


def test_latency_probe_measures_and_leaves_nothing(tmp_path: Path) -> None:
    assert fsync_latency_s(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []
