"""The store: what was written is what is loaded; what cannot be right is neither written nor loaded."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tbot.core.messages import ClientOrderId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import ConfigError, InvariantViolated, StateCorrupt
from tbot.store.journal import Store, WriteFailed
from tbot.store.rows import CheckpointRow, PreparedRow, RecordRow

FILE = "journal.sqlite"


def record(seq: int, *, at_s: int = 0, payload: bytes = b"p") -> RecordRow:
    return RecordRow(seq=seq, at_ns=Nanos(at_s * NANOS_PER_S), kind="Fill", payload=payload)


def prepared(name: str, *, at_s: int = 0) -> PreparedRow:
    return PreparedRow(client_order_id=ClientOrderId(name), at_ns=Nanos(at_s * NANOS_PER_S), payload=b"signed")


def checkpoint(seq: int, *, at_s: int = 0) -> CheckpointRow:
    return CheckpointRow(seq=seq, at_ns=Nanos(at_s * NANOS_PER_S), payload=b"state %d" % seq)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mode) for file in sorted(folder.iterdir())}


def edit(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute(sql)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / "state" if request.param == "file" else None, "me")) as opened:
        yield opened


def test_new_store_loads_nothing(store: Store) -> None:
    loaded = store.load()
    assert (loaded.epoch, loaded.checkpoint, loaded.checkpoint_seq, loaded.record_seq) == (1, None, 0, 0)
    assert (loaded.records, loaded.prepared) == ((), ())


def test_each_load_is_a_new_epoch(store: Store) -> None:
    assert [store.load().epoch for _ in range(3)] == [1, 2, 3]


def test_group_of_any_mixture_is_loaded_as_written(store: Store) -> None:
    store.write([record(1), prepared("a"), record(2), checkpoint(1), record(3, payload=bytes(range(256)) * 50)])
    loaded = store.load()
    assert loaded.checkpoint == checkpoint(1)
    assert loaded.records == (record(2), record(3, payload=bytes(range(256)) * 50))
    assert loaded.prepared == (prepared("a"),)
    assert loaded.record_seq == 3


def test_newest_three_checkpoints_are_kept_and_an_older_one_changes_nothing(store: Store) -> None:
    store.write([record(seq) for seq in range(1, 10)])
    store.write([checkpoint(seq) for seq in (1, 3, 5, 7, 5, 2)])
    assert store.load().checkpoint == checkpoint(7)
    kept = store._connection().execute("SELECT seq FROM checkpoint ORDER BY seq").fetchall()
    assert kept == [(3,), (5,), (7,)]


def test_prepared_orders_of_the_last_ten_minutes_before_the_checkpoint_are_loaded(store: Store) -> None:
    store.write([prepared("late", at_s=2000), prepared("early", at_s=399), prepared("edge", at_s=400)])
    assert len(store.load().prepared) == 3
    store.write([checkpoint(0, at_s=1000)])
    assert [row.client_order_id for row in store.load().prepared] == ["edge", "late"]


def test_prepared_orders_are_kept_as_long_as_a_kept_checkpoint_needs_them(store: Store) -> None:
    store.write([record(1), record(2), record(3), prepared("old", at_s=100)])
    for seq, at_s in ((0, 600), (1, 1200), (2, 1300)):
        store.write([checkpoint(seq, at_s=at_s)])
    with pytest.raises(InvariantViolated):
        store.write([prepared("old")])
    store.write([checkpoint(3, at_s=1400)])  # the oldest kept is now of second 1200
    store.write([prepared("old", at_s=1400)])


@pytest.mark.parametrize("rows", [[record(2)], [record(1), record(3)], [record(1), record(1)], [record(0)]])
def test_record_out_of_sequence_is_our_fault_and_undoes_its_group(store: Store, rows: list[RecordRow]) -> None:
    with pytest.raises(InvariantViolated, match="appended after"):
        store.write([prepared("a"), *rows])
    loaded = store.load()
    assert (loaded.records, loaded.prepared) == ((), ())
    store.write([record(1)])


def test_order_prepared_twice_is_our_fault(store: Store) -> None:
    store.write([prepared("a")])
    with pytest.raises(InvariantViolated, match="a was prepared twice"):
        store.write([prepared("a", at_s=1)])
    assert store.load().prepared == (prepared("a"),)


def test_checkpoint_of_records_never_written_is_our_fault(store: Store) -> None:
    with pytest.raises(InvariantViolated, match="a checkpoint after record 1"):
        store.write([checkpoint(1)])


def test_records_are_paged(store: Store) -> None:
    store.write([record(seq) for seq in range(1, 6)])
    assert [row.seq for row in store.records(limit=2)] == [1, 2]
    assert [row.seq for row in store.records(after_seq=2, limit=9)] == [3, 4, 5]


def test_place_and_latency_are_told(store: Store) -> None:
    is_memory = store.place == "memory"
    assert is_memory or store.place.endswith("/state/journal.sqlite")
    assert (store.fsync_latency_s() == 0) == is_memory


def test_journal_survives_reopening_and_counts_on(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        store.load()
        store.write([record(1), prepared("a"), checkpoint(1)])
    with closing(Store.open(tmp_path, "me")) as store:
        store.write([record(2)])
        loaded = store.load()
    assert (loaded.epoch, loaded.checkpoint, loaded.records) == (2, checkpoint(1), (record(2),))
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE]


def test_file_is_set_up_to_survive_a_power_cut(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        values = [
            store._connection().execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "locking_mode")
        ]
    assert values == ["wal", 2, 5000, 1, "exclusive"]


def test_all_files_are_private_under_any_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        store = Store.open(tmp_path / "state", "me")
        store.write([record(1)])
    finally:
        os.umask(previous)
    files = list((tmp_path / "state").iterdir())
    assert sorted(file.name for file in files) == [FILE, f"{FILE}-shm", f"{FILE}-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def crash(folder: Path, copy: Path) -> Path:
    """Copy the files as a crash would leave them: with their log, unclosed."""
    shutil.copytree(folder, copy)
    copy.chmod(0o700)
    return copy


def test_journal_is_recovered_from_its_log_after_a_crash(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "a", "me")) as store:
        store.write([record(1)])
        with_index, without = crash(tmp_path / "a", tmp_path / "b"), crash(tmp_path / "a", tmp_path / "c")
    (without / f"{FILE}-shm").unlink()
    for folder in (with_index, without):
        with closing(Store.open(folder, "me")) as store:
            assert store.load().records == (record(1),)


def test_leftovers_of_an_unfinished_creation_are_swept(tmp_path: Path) -> None:
    for suffix in (".new", ".new-wal"):
        (tmp_path / (FILE + suffix)).write_bytes(b"half")
    Store.open(tmp_path, "me").close()
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


# Each: what is done to a healthy folder, the refusal, and words of its message.
REFUSALS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "emptied": (lambda folder: (folder / FILE).write_bytes(b""), StateCorrupt, "not a database.*backup"),
    "not a database": (lambda folder: (folder / FILE).write_bytes(b"x" * 9000), StateCorrupt, "not a database"),
    "cut short": (lambda folder: os.truncate(folder / FILE, 8192), StateCorrupt, "damaged"),
    "deleted": (lambda folder: (folder / FILE).rename(folder / f"{FILE}-wal"), StateCorrupt, "file itself is not"),
    "newer": (lambda folder: edit(folder, "PRAGMA user_version = 9"), StateCorrupt, "run the newer"),
    "older by damage": (lambda folder: edit(folder, "PRAGMA user_version = 0"), StateCorrupt, "format number"),
    "table gone": (lambda folder: edit(folder, "DROP TABLE record"), StateCorrupt, "no such table"),
    "record lost": (lambda folder: edit(folder, "DELETE FROM record WHERE seq = 3"), StateCorrupt, "3 in all"),
    "last record lost": (lambda folder: edit(folder, "DELETE FROM record WHERE seq = 4"), StateCorrupt, "1 to 3"),
    "prepared lost": (lambda folder: edit(folder, "DELETE FROM prepared"), StateCorrupt, "0 prepared orders"),
    "checkpoint lost": (lambda folder: edit(folder, "DELETE FROM checkpoint"), StateCorrupt, r"checkpoints \(\)"),
    "bit rot in a record": (lambda folder: edit(folder, "UPDATE record SET payload = x'00'"), StateCorrupt, "record 3"),
    "time altered": (lambda folder: edit(folder, "UPDATE prepared SET at_ns = 1"), StateCorrupt, "prepared 'a'"),
    "state altered": (lambda folder: edit(folder, "UPDATE checkpoint SET payload = x''"), StateCorrupt, "checkpoint 2"),
    "meta altered": (lambda folder: edit(folder, "UPDATE meta SET value = x'39'"), StateCorrupt, "meta 'epoch'"),
    "meta lost": (lambda folder: edit(folder, "DELETE FROM meta WHERE key = 'epoch'"), StateCorrupt, "is missing"),
    "another's": (lambda folder: None, ConfigError, "state of 'me', not of 'you': name another"),
    "readable": (lambda folder: (folder / FILE).chmod(0o644), StateCorrupt, "chmod 600"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_names_the_remedy_and_leaves_every_byte(tmp_path: Path, case: str) -> None:
    damage, refusal, words = REFUSALS[case]
    with closing(Store.open(tmp_path, "me")) as store:
        store.write([*(record(seq) for seq in range(1, 5)), prepared("a", at_s=9), checkpoint(2)])
    damage(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(refusal, match=words) as caught:
        Store.open(tmp_path, "you" if case == "another's" else "me")
    assert contents(tmp_path) == before
    assert FILE in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("has_index", [True, False])
def test_refusal_after_a_crash_leaves_every_byte(tmp_path: Path, has_index: bool) -> None:
    with closing(Store.open(tmp_path / "a", "me")) as store:
        store.write([record(1)])
        folder = crash(tmp_path / "a", tmp_path / "b")
    if not has_index:
        (folder / f"{FILE}-shm").unlink()
    before = contents(folder)
    with pytest.raises(ConfigError):
        Store.open(folder, "you")
    assert contents(folder) == before


def test_journal_that_another_program_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbot.store.database.BUSY_TIMEOUT_MS", 1)
    Store.open(tmp_path, "me").close()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigError, match="in use by another program"):
            Store.open(tmp_path, "me")


def test_other_programs_are_locked_out_from_the_start(tmp_path: Path) -> None:
    with (
        closing(Store.open(tmp_path, "me")),
        closing(sqlite3.connect(tmp_path / FILE, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("SELECT count(*) FROM record")


def test_full_disk_keeps_nothing_of_the_group_and_the_next_write_starts_anew(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        store.write([record(1)])
        store._connection().execute("PRAGMA max_page_count = 1")  # SQLite then says that the disk is full
        with pytest.raises(WriteFailed, match="full"):
            store.write([record(2), record(3, payload=bytes(1_000_000))])
        store.write([record(2)])
        assert store.load().records == (record(1), record(2))


def test_rot_found_while_running_is_refused(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        store.write([record(1)])
        store._connection().execute("UPDATE record SET payload = x'00'")
        with pytest.raises(StateCorrupt, match="record 1 does not match"):
            store.load()
        with pytest.raises(StateCorrupt, match="record 1 does not match"):
            store.records(limit=1)


def test_damage_long_before_the_checkpoint_is_refused_at_the_start_and_left_alone(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        store.write([record(seq) for seq in range(1, 4_001)] + [checkpoint(4_000)])
    edit(tmp_path, "UPDATE record SET payload = x'00' WHERE seq = 2100")
    before = contents(tmp_path)
    with pytest.raises(StateCorrupt, match="record 2100 does not match its checksum"):
        Store.open(tmp_path, "me")
    assert contents(tmp_path) == before
