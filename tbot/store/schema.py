"""The tables of a journal file, and how an older file becomes one of today's format.

The format is `user_version`, repeated under a checksum in `meta`: a damaged header must not pass for an old file and be
migrated into ruin.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tbot.store.rows import checksum

# MIGRATIONS[n] leads from format n to n + 1. Never edit a released step: files made by it exist.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE record (
            seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL,
            checksum INTEGER NOT NULL
        ) STRICT
        """,
        # Without rowid: a separate index could part from its table, and SQLite's quick check would not notice.
        """
        CREATE TABLE prepared (
            client_order_id TEXT PRIMARY KEY, at_ns INTEGER NOT NULL, payload BLOB NOT NULL, checksum INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE checkpoint (
            seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, payload BLOB NOT NULL, checksum INTEGER NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID
        """,
    ),
)

META_FORMAT = "format"
META_IDENTITY = "identity"
META_EPOCH = "epoch"
META_TALLY = "tally"


def format_of(connection: sqlite3.Connection) -> int:
    """Read the format a file claims; 0 = no tables yet."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring a file to the newest format, one transaction a step with the version inside: a crash leaves a whole step.

    Args:
        connection: In autocommit mode, the only connection to the file.
        migrations: Steps from format 0 on.

    Raises:
        sqlite3.Error: A step failed and was undone; earlier steps stand.
    """
    for version in range(format_of(connection), len(migrations)):
        connection.execute("BEGIN EXCLUSIVE")
        try:
            for statement in migrations[version]:
                connection.execute(statement)
            put_meta(connection, META_FORMAT, b"%d" % (version + 1))
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def put_meta(connection: sqlite3.Connection, key: str, value: bytes) -> None:
    """Write one row of `meta`, inside the caller's transaction."""
    row = (key, value, checksum("meta", key, value))
    connection.execute("INSERT OR REPLACE INTO meta (key, value, checksum) VALUES (?, ?, ?)", row)


def read_meta(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Read all of `meta`.

    Raises:
        ValueError: A row does not match its checksum.
    """
    rows = connection.execute("SELECT key, value, checksum FROM meta ORDER BY key").fetchall()
    for key, value, stored in rows:
        if checksum("meta", key, value) != stored:
            raise ValueError(f"meta {key!r} does not match its checksum")
    return {key: value for key, value, _ in rows}
