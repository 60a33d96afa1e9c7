"""A torn log is what a power cut leaves and is recovered; a damaged one lost acknowledged groups and is refused."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from tbot.core.units import Nanos
from tbot.errors import StateCorrupt
from tbot.store.journal import Store
from tbot.store.rows import RecordRow
from tbot.store.wal import FRAME_HEADER_BYTES, HEADER_BYTES, log_complaint

GROUPS = 6
FRAME = FRAME_HEADER_BYTES + 4096


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """Leave a folder as a crash after six groups would."""
    with closing(Store.open(tmp_path / "running", "me")) as store:
        for seq in range(1, GROUPS + 1):
            store.write([RecordRow(seq=seq, at_ns=Nanos(0), kind="fact", payload=b"p")])
        shutil.copytree(tmp_path / "running", tmp_path / "crashed")
    (tmp_path / "crashed").chmod(0o700)
    return tmp_path / "crashed"


def wal_of(folder: Path) -> Path:
    return folder / "journal.sqlite-wal"


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


def commit_starts(data: bytes) -> list[int]:
    starts = range(HEADER_BYTES, len(data), FRAME)
    return [start for start in starts if data[start + 4 : start + 8] != bytes(4)]


def test_whole_log_and_no_log_are_fine(crashed: Path) -> None:
    assert log_complaint(wal_of(crashed)) == ""
    assert log_complaint(crashed / "absent") == ""


def test_log_cut_anywhere_is_fine(crashed: Path) -> None:
    data = wal_of(crashed).read_bytes()
    for length in range(0, len(data), 997):
        wal_of(crashed).write_bytes(data[:length])
        assert log_complaint(wal_of(crashed)) == ""


def test_damage_before_acknowledged_groups_is_refused(crashed: Path) -> None:
    commits = commit_starts(wal_of(crashed).read_bytes())
    assert len(commits) == GROUPS
    flip(wal_of(crashed), commits[-3] + 100)
    with pytest.raises(StateCorrupt, match="broken before 3 acknowledged groups"):
        Store.open(crashed, "me")


def test_damage_in_the_newest_group_looks_like_a_power_cut(crashed: Path) -> None:
    flip(wal_of(crashed), commit_starts(wal_of(crashed).read_bytes())[-1] + 100)
    with closing(Store.open(crashed, "me")) as store:
        assert store.load().record_seq == GROUPS - 1


@pytest.mark.parametrize("position", [0, 9, 17, 30])
def test_damaged_header_is_refused(crashed: Path, position: int) -> None:
    flip(wal_of(crashed), position)
    with pytest.raises(StateCorrupt, match="header of its log"):
        Store.open(crashed, "me")


def test_frames_of_an_older_generation_do_not_count(crashed: Path) -> None:
    data = bytearray(wal_of(crashed).read_bytes())
    for start in commit_starts(bytes(data))[1:]:
        data[start + 8] ^= 0xFF  # their salt: as if the log had been reset after they were copied into the database
    wal_of(crashed).write_bytes(data)
    assert log_complaint(wal_of(crashed)) == ""
