"""The store: one journal in a private folder or in memory, written in groups that are durable when `write` returns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tbot.core.units import Nanos
from tbot.errors import TbotError
from tbot.store.database import FILE_NAME, Migrations, connect_file, connect_memory, damaged, read_tail, refusing_damage
from tbot.store.folder import StateFolder, fsync_latency_s
from tbot.store.rows import Loaded, RecordRow, Row, Tally
from tbot.store.schema import MIGRATIONS
from tbot.store.tables import insert, load_tail, put_epoch, put_tally, read_epoch, read_records, read_tally


class WriteFailed(TbotError):
    """The disk did not take a group (full, gone, failing); nothing of it is kept. The caller starts anew."""


def peek(folder: StateFolder, identity: str) -> Loaded | None:
    """Read what the next recovery will read, changing nothing; None = the folder holds no journal yet.

    Args:
        folder: Open, so no bot runs on it.
        identity: Exchange and account; the state of another identity is refused, as by `Store.open`.

    Raises:
        StateCorrupt: The journal cannot be used as it is.
        ConfigError: The state of another identity.
    """
    return read_tail(folder, identity, MIGRATIONS)


class Store:
    """A journal, its checkpoints and its prepared orders. Synchronous; one caller at a time.

    The owner keeps it over restarts of the journal task: a journal in memory lives exactly as long as this object, and
    the folder of a journal on disk stays locked.

    Attributes:
        identity: Whose state it is, e.g. "simulated:seed 7" or a funder's address.
    """

    def __init__(self, folder: StateFolder | None, identity: str, migrations: Migrations) -> None:
        self.identity = identity
        self._folder = folder
        self._migrations = migrations
        self._tally = Tally()
        self._open: sqlite3.Connection | None = None if folder else connect_memory(identity, migrations)

    @classmethod
    def open(cls, path: Path | None, identity: str, *, migrations: Migrations = MIGRATIONS) -> Self:
        """Open the journal in a folder, made new when there is none; None = in memory.

        Args:
            path: The state folder.
            identity: Exchange and account; the state of another identity is refused.
            migrations: Steps to the newest format.

        Raises:
            StateCorrupt: Folder or journal cannot be used as they are; both are left untouched.
            ConfigError: In use by another process, or the state of another identity.
        """
        folder = None if path is None else StateFolder.open(path)
        store = cls(folder, identity, migrations)
        try:
            store._connection(is_thorough=True)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def place(self) -> str:
        """Where the journal is, for people."""
        return "memory" if self._folder is None else str(self._folder.path / FILE_NAME)

    def write(self, rows: Sequence[Row]) -> None:
        """Write a group in one transaction: durable on return, or nothing of it.

        Args:
            rows: Records, prepared orders and checkpoints in any mixture, in order.

        Raises:
            WriteFailed: The disk did not take it. The next call opens the file anew, with all its checks.
            InvariantViolated: A record out of sequence, an order prepared twice, a checkpoint of records never written.
            StateCorrupt: The file was found damaged.
        """
        with self._transaction() as connection:
            tally = self._tally
            for row in rows:
                tally = insert(connection, row, tally)
            put_tally(connection, tally)
        self._tally = tally

    def load(self) -> Loaded:
        """Start a recovery: count it as a new epoch, and read the newest checkpoint and all that came after.

        Raises:
            StateCorrupt: A row is damaged or missing.
            WriteFailed: The disk did not take the new epoch.
        """
        with self._transaction() as connection:
            with refusing_damage(self.place):
                epoch = read_epoch(connection) + 1
            put_epoch(connection, epoch)
            with refusing_damage(self.place):
                return load_tail(connection, self._tally)

    def tail(self) -> Loaded:
        """Read what the next recovery will read, without beginning one; its epoch is that of the last recovery.

        Raises:
            StateCorrupt: A row is damaged or missing.
        """
        with refusing_damage(self.place):
            return load_tail(self._connection(), self._tally)

    def records(self, *, after_seq: int = 0, limit: int) -> tuple[RecordRow, ...]:
        """Read a page of the audit trail, in order and checked.

        Raises:
            StateCorrupt: A row is damaged or missing.
        """
        with refusing_damage(self.place):
            return read_records(self._connection(), after_seq=after_seq, limit=limit)

    def newest_ns(self) -> Nanos | None:
        """Return the time of the newest record; None when there is none."""
        page = self.records(after_seq=self._tally.record_seq - 1, limit=1) if self._tally.record_seq else ()
        return page[0].at_ns if page else None

    def fsync_latency_s(self) -> float:
        """Measure how long this disk takes to make a write durable, in seconds; 0.0 in memory. For display."""
        return 0.0 if self._folder is None else fsync_latency_s(self._folder.path)

    def close(self) -> None:
        """Fold the log into the file and release the folder. Idempotent; a journal in memory is gone."""
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._folder is not None:
            self._folder.close()

    def _connection(self, *, is_thorough: bool = False) -> sqlite3.Connection:
        # A connection that failed a write is not trusted again: start is recovery, here too.
        if self._open is None:
            assert self._folder is not None, "a journal in memory was used after it was closed"
            self._open = connect_file(self._folder, self.identity, self._migrations, is_thorough=is_thorough)
            with refusing_damage(self.place):
                self._tally = read_tally(self._open)
        return self._open

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._drop()
            raise WriteFailed(f"{self.place}: {error}") from error
        except sqlite3.Error as error:
            self._drop()
            raise damaged(Path(self.place), str(error)) from error
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _drop(self) -> None:
        # SQLite may have rolled back by itself, and what fails once may fail again on the way out.
        assert self._open is not None
        with suppress(sqlite3.Error):
            self._open.execute("ROLLBACK")
        if self._folder is not None:
            with suppress(sqlite3.Error):
                self._open.close()
            self._open = None
