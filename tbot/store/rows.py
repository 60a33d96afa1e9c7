"""What the store keeps: rows as structs, and the checksum that every row carries."""

from __future__ import annotations

import zlib

import msgspec

from tbot.core.messages import ClientOrderId
from tbot.core.units import Nanos

SEQ_FIRST = 1  # 0 means "no record yet", so a checkpoint of a state that saw nothing has seq 0

_packer = msgspec.msgpack.Encoder()


class RecordRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the coordinator's journal: a fact it consumed, a command it caused, or the view that caused it.

    Attributes:
        seq: The coordinator's own counter: 1 for the first record of a folder, then one more each, over restarts too.
        at_ns: Wall time of the turn that made it.
        kind: Name of the payload's type.
        payload: Encoded message; opaque to the store.
    """

    seq: int
    at_ns: Nanos
    kind: str
    payload: bytes


class PreparedRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signed order, durable before it is sent.

    Attributes:
        client_order_id: Ours; each can be prepared once.
        at_ns: Wall time of signing.
        payload: Encoded `Prepared`; opaque to the store.
    """

    client_order_id: ClientOrderId
    at_ns: Nanos
    payload: bytes


class CheckpointRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The coordinator's whole state after its record `seq`.

    Attributes:
        seq: Newest record it covers; 0 = none.
        at_ns: Wall time of that state.
        payload: Encoded state; opaque to the store.
    """

    seq: int
    at_ns: Nanos
    payload: bytes


Row = RecordRow | PreparedRow | CheckpointRow


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Everything recovery needs, read in one transaction.

    Attributes:
        epoch: Count of recoveries of this folder, this one included; part of client order ids, so none comes twice.
        checkpoint: Newest checkpoint; None = start from nothing.
        records: The records after the checkpoint, in order, without a gap.
        prepared: Orders prepared since ten minutes before the checkpoint, oldest first. One that no record mentions
            was signed just before a crash and may be on the exchange.
        record_seq: Newest record of the folder, 0 = none; the coordinator's next one is this plus one.
    """

    epoch: int
    checkpoint: CheckpointRow | None
    records: tuple[RecordRow, ...]
    prepared: tuple[PreparedRow, ...]
    record_seq: int

    @property
    def checkpoint_seq(self) -> int:
        """Newest record that the checkpoint covers; 0 when there is no checkpoint."""
        return 0 if self.checkpoint is None else self.checkpoint.seq


class Tally(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows each table must hold, rewritten in every transaction: a row that vanished is missed.

    SQLite's own check sees a broken page, not a page that is whole but one row short.

    Attributes:
        record_seq: Newest record; as the first is 1 and none is skipped, also their number.
        prepared_count: Rows of `prepared`.
        checkpoint_seqs: Rows of `checkpoint`, oldest first.
    """

    record_seq: int = SEQ_FIRST - 1
    prepared_count: int = 0
    checkpoint_seqs: tuple[int, ...] = ()


def checksum(table: str, *columns: object) -> int:
    """Return the CRC-32 of one row: table name and every column, so that a moved or altered value is seen.

    The columns are packed with their types first; damage that turns text into a number must not crash the check.
    """
    return zlib.crc32(_packer.encode((table, *columns)))
