"""The journal file: made whole or not at all, examined without touching it, then opened by exactly one connection.

SQLite keeps a database in up to three files; `-wal` and `-shm` exist while it is open and after a crash. Opening such a
file for writing folds the log into it, so everything that can be refused is refused on a read-only connection first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from tbot.errors import ConfigError, StateCorrupt
from tbot.store.folder import StateFolder, create_private
from tbot.store.rows import Loaded, Tally
from tbot.store.schema import (
    META_EPOCH,
    META_FORMAT,
    META_IDENTITY,
    META_TALLY,
    format_of,
    migrate,
    put_meta,
    read_meta,
)
from tbot.store.tables import load_tail, read_records, read_tally
from tbot.store.wal import log_complaint

FILE_NAME = "journal.sqlite"
SIDE_SUFFIXES = ("-wal", "-shm", "-journal")
FILE_NAMES = (FILE_NAME, *(FILE_NAME + suffix for suffix in SIDE_SUFFIXES))
NEW_SUFFIX = ".new"
MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
RECORDS_PAGE = 2_000
FILE_VERSIONS = slice(18, 20)  # for writing and reading; with a higher one SQLite would open the file but never write
FILE_VERSIONS_KNOWN = {1, 2}
BUSY_TIMEOUT_MS = 5_000  # another program that looks into the file is expected to be done by then
PRIMARY_CODE = 0xFF  # SQLite adds details above the low byte
DISK_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

Migrations = Sequence[Sequence[str]]


def connect_memory(identity: str, migrations: Migrations) -> sqlite3.Connection:
    """Make a journal that lives as long as its connection."""
    connection = _connect(":memory:")
    _fill(connection, identity, migrations)
    return connection


def connect_file(
    folder: StateFolder, identity: str, migrations: Migrations, *, is_thorough: bool = True
) -> sqlite3.Connection:
    """Open the journal of a locked folder, made new when the folder has none.

    Args:
        folder: Checked and locked; stays locked when this fails.
        identity: Whose state this is; another one's is refused.
        migrations: Steps from format 0 to the format wanted.
        is_thorough: See `examine`.

    Raises:
        StateCorrupt: Damaged, incomplete, or of a newer format; no byte was changed.
        ConfigError: The journal of another identity, or in use by another program; no byte was changed.
    """
    folder.check_files(FILE_NAMES)
    path = folder.path / FILE_NAME
    with refusing_damage(path):
        if not path.exists():
            _create(folder, identity, migrations)
        examine(path, identity, migrations, is_thorough=is_thorough)
        return _open_to_write(path, migrations)


def read_tail(folder: StateFolder, identity: str, migrations: Migrations) -> Loaded | None:
    """Read what the next recovery will read, without changing a byte; None = the folder holds no journal yet.

    Args:
        folder: Checked and locked.
        identity: Whose state this must be.
        migrations: Steps to the newest format.

    Raises:
        StateCorrupt: Damaged, incomplete, or of a newer format.
        ConfigError: The journal of another identity.
    """
    folder.check_files(FILE_NAMES)
    path = folder.path / FILE_NAME
    with refusing_damage(path):
        return examine(path, identity, migrations, is_thorough=False) if path.exists() else None


def examine(path: Path, identity: str, migrations: Migrations, *, is_thorough: bool = True) -> Loaded:
    """Find every reason to refuse a journal file, without changing a byte, and read what recovery needs of it.

    Args:
        path: The file.
        identity: Whose it must be.
        migrations: Steps to the newest format.
        is_thorough: Read every page and every record, as a start must. A bot that trades and only reopens the file
            after a failed write cannot wait for that: it reads what recovery needs.

    Raises:
        StateCorrupt: Damaged, incomplete, or of a newer format.
        ConfigError: The journal of another identity.
        sqlite3.Error: Damaged in a way that SQLite found.
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if not header.startswith(MAGIC) or len(header) < HEADER_BYTES:
        raise damaged(path, "it is not a database")
    if not set(header[FILE_VERSIONS]) <= FILE_VERSIONS_KNOWN:
        raise damaged(path, "its header claims a format of SQLite that does not exist")
    if complaint := log_complaint(Path(f"{path}-wal")):
        raise damaged(path, complaint)
    with _read_only(path) as connection:
        _check_format(path, connection, migrations)
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone() if is_thorough else ("ok",)
        if verdict != ("ok",):
            raise damaged(path, " ".join(str(verdict[0]).split()))
        _check_identity(path, connection, identity)
        loaded = load_tail(connection, read_tally(connection))
        if is_thorough:
            _check_records(connection)
        return loaded


def _check_records(connection: sqlite3.Connection) -> None:
    """Read every record against its checksum: damage before the newest checkpoint must not surface in mid-trading."""
    seq = 0
    while page := read_records(connection, after_seq=seq, limit=RECORDS_PAGE):
        seq = page[-1].seq


def damaged(path: Path, what: str) -> StateCorrupt:
    """Make the refusal of a damaged file: what was found, and the two ways out."""
    return StateCorrupt(
        f"{path} is damaged ({what}) and was left untouched: restore its folder from a backup, or move the folder "
        "aside to start from what the exchange reports."
    )


@contextmanager
def refusing_damage(path: Path | str) -> Iterator[None]:
    """Translate what reading a damaged file can raise into `StateCorrupt`, once, here.

    Raises:
        StateCorrupt: Instead of errors of SQLite, of decoding and of the disk.
        ConfigError: Instead of "locked": another program holds the file.
    """
    path = Path(path)
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _refusal_of(path, error) from error
    except OSError as error:
        raise StateCorrupt(f"{path} cannot be used ({error.strerror}): check the disk, then start again.") from error
    # A damaged length can ask SQLite for more memory than there is.
    except (sqlite3.Error, ValueError, msgspec.MsgspecError, MemoryError) as error:
        raise damaged(path, str(error) or type(error).__name__) from error


def _refusal_of(path: Path, error: sqlite3.OperationalError) -> StateCorrupt | ConfigError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & PRIMARY_CODE
    if code == sqlite3.SQLITE_BUSY:
        return ConfigError(f"{path} is in use by another program: close it there, then start again.")
    if code in DISK_CODES:
        return StateCorrupt(
            f"{path} cannot be used ({error}): check the disk, its space and our rights, then start again."
        )
    return damaged(path, str(error))


def _create(folder: StateFolder, identity: str, migrations: Migrations) -> None:
    # Built beside its place and renamed: a journal file that exists is complete, so an empty one means damage.
    path = folder.path / FILE_NAME
    for leftover in FILE_NAMES[1:]:
        if (folder.path / leftover).exists():
            raise damaged(path, f"{leftover} is there and the file itself is not")
    new = folder.path / (FILE_NAME + NEW_SUFFIX)
    for suffix in ("", *SIDE_SUFFIXES):
        Path(f"{new}{suffix}").unlink(missing_ok=True)
    create_private(new)
    with closing(_connect(_uri(new, "mode=rw"))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        _fill(connection, identity, migrations)
    new.rename(path)
    folder.sync()


def _fill(connection: sqlite3.Connection, identity: str, migrations: Migrations) -> None:
    migrate(connection, migrations)
    connection.execute("BEGIN IMMEDIATE")
    put_meta(connection, META_IDENTITY, identity.encode())
    put_meta(connection, META_EPOCH, b"0")
    put_meta(connection, META_TALLY, msgspec.json.encode(Tally()))
    connection.execute("COMMIT")


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    # Without a log the file is complete and can be read as immutable. With one, `readonly_shm` makes SQLite index the
    # log in memory; it insists on an index file, so an empty one stands in where a copied folder has none.
    log, index = Path(f"{path}-wal"), Path(f"{path}-shm")
    is_stand_in = log.exists() and not index.exists()
    if is_stand_in:
        create_private(index)
    try:
        with closing(
            _connect(_uri(path, "mode=ro&readonly_shm=1" if log.exists() else "mode=ro&immutable=1"))
        ) as found:
            yield found
    finally:
        if is_stand_in:
            index.unlink()


def _check_format(path: Path, connection: sqlite3.Connection, migrations: Migrations) -> None:
    claimed = format_of(connection)
    if claimed > len(migrations):
        raise StateCorrupt(
            f"{path} has format {claimed}, this tbot knows {len(migrations)}, and it was left untouched: run the newer "
            "tbot that wrote it, or name another state folder."
        )
    if read_meta(connection).get(META_FORMAT) != b"%d" % claimed:
        raise damaged(path, "its format number is not the one it was written with")


def _check_identity(path: Path, connection: sqlite3.Connection, identity: str) -> None:
    found = read_meta(connection)
    if missing := [key for key in (META_EPOCH, META_IDENTITY, META_TALLY) if key not in found]:
        raise damaged(path, f"meta {missing[0]!r} is missing")
    if (theirs := found[META_IDENTITY].decode()) != identity:
        raise ConfigError(f"{path} holds the state of {theirs!r}, not of {identity!r}: name another state folder.")


def _open_to_write(path: Path, migrations: Migrations) -> sqlite3.Connection:
    connection = _connect(_uri(path, "mode=rw"))
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise damaged(path, f"its journal mode is {mode!r} and cannot be changed")
        # One connection for good: nobody can hold back the log, and SQLite's log-reset fault (before 3.51.3) takes two.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")  # takes the lock now, or says now that another program holds it
        connection.execute("COMMIT")
        _migrate_with_copy(path, connection, migrations)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate_with_copy(path: Path, connection: sqlite3.Connection, migrations: Migrations) -> None:
    found = format_of(connection)
    if found == len(migrations):
        return
    copy = Path(f"{path}.format-{found}")
    copy.unlink(missing_ok=True)
    create_private(copy)
    with closing(_connect(_uri(copy, "mode=rw"))) as target:
        connection.backup(target)
    migrate(connection, migrations)


def _connect(uri: str) -> sqlite3.Connection:
    # Threads: the pool may serve each call from another one; the journal task sees to it that there is one at a time.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone stops at the drive's cache; no effect elsewhere
    return connection


def _uri(path: Path, parameters: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{parameters}"
