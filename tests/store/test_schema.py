"""Migrations: whole steps, in order, with a copy of what was there before."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tbot.core.units import Nanos
from tbot.errors import StateCorrupt
from tbot.store.journal import Store
from tbot.store.rows import RecordRow
from tbot.store.schema import MIGRATIONS, format_of, migrate, read_meta

NEXT = (*MIGRATIONS, ("ALTER TABLE record ADD COLUMN note TEXT",))
ROW = RecordRow(seq=1, at_ns=Nanos(5), kind="fact", payload=b"x")


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def test_tables_are_strict_and_every_row_has_a_checksum() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        tables = connection.execute("PRAGMA table_list").fetchall()
        ours = {name: strict for _, name, _, _, _, strict in tables if not name.startswith("sqlite_")}
        assert ours == {"record": 1, "prepared": 1, "checkpoint": 1, "meta": 1}
        assert all(columns(connection, table)[-1] == "checksum" for table in ours)


def test_step_that_fails_is_undone_whole_and_earlier_steps_stand() -> None:
    steps = (*NEXT, ("CREATE TABLE extra (a INTEGER) STRICT", "CREATE TABLE extra (a INTEGER) STRICT"))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate(connection, steps)
        assert format_of(connection) == len(NEXT)
        assert read_meta(connection)["format"] == b"%d" % len(NEXT)
        assert columns(connection, "extra") == []


def test_older_file_is_copied_then_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        store.write([ROW])
    with closing(Store.open(tmp_path, "me", migrations=NEXT)) as store:
        assert store.load().records == (ROW,)
    copy = tmp_path / "journal.sqlite.format-1"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert format_of(connection) == 1
        assert connection.execute("SELECT seq FROM record").fetchall() == [(1,)]


def test_newer_file_is_refused_by_an_older_bot(tmp_path: Path) -> None:
    Store.open(tmp_path, "me", migrations=NEXT).close()
    with pytest.raises(StateCorrupt, match="has format 2, this tbot knows 1"):
        Store.open(tmp_path, "me")
