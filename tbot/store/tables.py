"""Reading and writing the rows of each table, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from typing import TypeVar

import msgspec

from tbot.core.messages import ClientOrderId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import InvariantViolated
from tbot.store.rows import SEQ_FIRST, CheckpointRow, Loaded, PreparedRow, RecordRow, Row, Tally, checksum
from tbot.store.schema import META_EPOCH, META_TALLY, put_meta, read_meta

CHECKPOINTS_KEPT = 3  # the newest serves recovery, two older ones serve whoever asks how the newest came about
# A submit is answered, or settled by a report, within a minute or two; ten leave room for a slow exchange.
PREPARED_HORIZON_NS = 600 * NANOS_PER_S

T = TypeVar("T")


def insert(connection: sqlite3.Connection, row: Row, tally: Tally) -> Tally:
    """Write one row and return the tally after it.

    Raises:
        InvariantViolated: A record out of sequence, an order prepared twice, or a checkpoint of records never written.
        sqlite3.Error: Not written.
    """
    match row:
        case RecordRow():
            return _insert_record(connection, row, tally)
        case PreparedRow():
            return _insert_prepared(connection, row, tally)
        case CheckpointRow():
            return _insert_checkpoint(connection, row, tally)


def read_tally(connection: sqlite3.Connection) -> Tally:
    """Read how many rows there must be, and hold every table against it.

    Raises:
        ValueError: A table has more or fewer rows than were written.
    """
    tally = msgspec.json.decode(read_meta(connection)[META_TALLY], type=Tally)
    first, last, count = connection.execute("SELECT min(seq), max(seq), count(*) FROM record").fetchone()
    expected = (SEQ_FIRST, tally.record_seq, tally.record_seq) if tally.record_seq else (None, None, 0)
    if (first, last, count) != expected:
        raise ValueError(f"records {first} to {last}, {count} in all, where 1 to {tally.record_seq} were written")
    (count,) = connection.execute("SELECT count(*) FROM prepared").fetchone()
    if count != tally.prepared_count:
        raise ValueError(f"{count} prepared orders where {tally.prepared_count} were written")
    seqs = tuple(seq for (seq,) in connection.execute("SELECT seq FROM checkpoint ORDER BY seq"))
    if seqs != tally.checkpoint_seqs:
        raise ValueError(f"checkpoints {seqs} where {tally.checkpoint_seqs} were written")
    return tally


def put_tally(connection: sqlite3.Connection, tally: Tally) -> None:
    """Write the tally, as the last act of every transaction."""
    put_meta(connection, META_TALLY, msgspec.json.encode(tally))


def read_epoch(connection: sqlite3.Connection) -> int:
    """Read how many recoveries this journal has seen."""
    return int(read_meta(connection)[META_EPOCH])


def put_epoch(connection: sqlite3.Connection, epoch: int) -> None:
    """Write the count of recoveries."""
    put_meta(connection, META_EPOCH, b"%d" % epoch)


def load_tail(connection: sqlite3.Connection, tally: Tally) -> Loaded:
    """Read what recovery needs: the newest checkpoint and everything after it.

    Raises:
        ValueError: A row does not match its checksum, or a record is missing.
    """
    checkpoint = _newest_checkpoint(connection)
    seq = checkpoint.seq if checkpoint else SEQ_FIRST - 1
    records = read_records(connection, after_seq=seq, limit=tally.record_seq - seq)
    if len(records) != tally.record_seq - seq:
        raise ValueError(f"{len(records)} records after {seq} where {tally.record_seq - seq} were written")
    since_ns = checkpoint.at_ns - PREPARED_HORIZON_NS if checkpoint else None
    return Loaded(
        epoch=read_epoch(connection),
        checkpoint=checkpoint,
        records=records,
        prepared=_read_prepared(connection, since_ns),
        record_seq=tally.record_seq,
    )


def read_records(connection: sqlite3.Connection, *, after_seq: int, limit: int) -> tuple[RecordRow, ...]:
    """Read records in order, without a gap.

    Raises:
        ValueError: A row does not match its checksum, or one is missing between those read.
    """
    sql = "SELECT seq, at_ns, kind, payload, checksum FROM record WHERE seq > ? ORDER BY seq LIMIT ?"
    records = []
    for expected, (*columns, stored) in enumerate(connection.execute(sql, (after_seq, limit)), start=after_seq + 1):
        seq, at_ns, kind, payload = columns
        _check("record", columns, stored)
        if seq != expected:
            raise ValueError(f"record {expected} is missing")
        records.append(RecordRow(seq=seq, at_ns=at_ns, kind=kind, payload=payload))
    return tuple(records)


def _newest_checkpoint(connection: sqlite3.Connection) -> CheckpointRow | None:
    sql = "SELECT seq, at_ns, payload, checksum FROM checkpoint ORDER BY seq DESC LIMIT 1"
    found = connection.execute(sql).fetchone()
    if found is None:
        return None
    *columns, stored = found
    _check("checkpoint", columns, stored)
    seq, at_ns, payload = columns
    return CheckpointRow(seq=seq, at_ns=at_ns, payload=payload)


def _read_prepared(connection: sqlite3.Connection, since_ns: int | None) -> tuple[PreparedRow, ...]:
    # All rows are checked, not only those asked for: damage to `at_ns` must not hide a row. The table is kept small.
    rows = []
    for *columns, stored in connection.execute("SELECT client_order_id, at_ns, payload, checksum FROM prepared"):
        _check("prepared", columns, stored)
        client_order_id, at_ns, payload = columns
        if since_ns is None or at_ns >= since_ns:
            order_id = ClientOrderId(client_order_id)
            rows.append(PreparedRow(client_order_id=order_id, at_ns=Nanos(at_ns), payload=payload))
    return tuple(sorted(rows, key=lambda row: (row.at_ns, row.client_order_id)))


def _check(table: str, columns: list[object], stored: int) -> None:
    if checksum(table, *columns) != stored:
        raise ValueError(f"{table} {columns[0]!r} does not match its checksum")


def _insert_record(connection: sqlite3.Connection, row: RecordRow, tally: Tally) -> Tally:
    if row.seq != tally.record_seq + 1:
        raise InvariantViolated(f"record {row.seq} ({row.kind}) was appended after record {tally.record_seq}")
    columns = (row.seq, row.at_ns, row.kind, row.payload)
    sql = "INSERT INTO record (seq, at_ns, kind, payload, checksum) VALUES (?, ?, ?, ?, ?)"
    connection.execute(sql, (*columns, checksum("record", *columns)))
    return msgspec.structs.replace(tally, record_seq=row.seq)


def _insert_prepared(connection: sqlite3.Connection, row: PreparedRow, tally: Tally) -> Tally:
    columns = (row.client_order_id, row.at_ns, row.payload)
    sql = "INSERT INTO prepared (client_order_id, at_ns, payload, checksum) VALUES (?, ?, ?, ?)"
    try:
        connection.execute(sql, (*columns, checksum("prepared", *columns)))
    except sqlite3.IntegrityError as error:
        raise InvariantViolated(f"order {row.client_order_id} was prepared twice") from error
    return msgspec.structs.replace(tally, prepared_count=tally.prepared_count + 1)


def _insert_checkpoint(connection: sqlite3.Connection, row: CheckpointRow, tally: Tally) -> Tally:
    if row.seq > tally.record_seq:
        raise InvariantViolated(f"a checkpoint after record {row.seq} was saved after record {tally.record_seq}")
    columns = (row.seq, row.at_ns, row.payload)
    sql = "INSERT OR REPLACE INTO checkpoint (seq, at_ns, payload, checksum) VALUES (?, ?, ?, ?)"
    connection.execute(sql, (*columns, checksum("checkpoint", *columns)))
    seqs = tuple(sorted({*tally.checkpoint_seqs, row.seq}))[-CHECKPOINTS_KEPT:]
    connection.execute("DELETE FROM checkpoint WHERE seq < ?", (seqs[0],))
    return msgspec.structs.replace(tally, checkpoint_seqs=seqs, prepared_count=_prune_prepared(connection, tally))


def _prune_prepared(connection: sqlite3.Connection, tally: Tally) -> int:
    # Nothing reads them any more, and their audit trail is the coordinator's own record of `Prepared`.
    (oldest_ns,) = connection.execute("SELECT min(at_ns) FROM checkpoint").fetchone()
    pruned = connection.execute("DELETE FROM prepared WHERE at_ns < ?", (oldest_ns - PREPARED_HORIZON_NS,))
    return tally.prepared_count - pruned.rowcount
