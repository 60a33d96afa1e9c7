"""What a stopped bot's journal says to people: the halt that the next start finds, whichever markets are on record."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tbot.core.account import CoordinatorState
from tbot.core.messages import Message
from tbot.core.units import Nanos
from tbot.store.rows import CheckpointRow, Loaded, RecordRow
from tbot.tasks.coordinator import encode_state, rebuild, rebuild_alone
from tests.core.coordinators import LIMITS, MARKETS, Desk
from tests.core.test_drift import halted_desk
from tests.core.test_joined_market import desk_before, joined, tell

_encoder = msgspec.msgpack.Encoder()


def loaded(journal: list[tuple[Message, Nanos]], state: CoordinatorState | None) -> Loaded:
    """What the store hands out: a checkpoint or none, and the records after it."""
    records = tuple(
        RecordRow(seq=seq, at_ns=at_ns, kind=type(message).__name__, payload=_encoder.encode(message))
        for seq, (message, at_ns) in enumerate(journal, start=1)
    )
    row = None if state is None else CheckpointRow(seq=0, at_ns=Nanos(0), payload=encode_state(state))
    return Loaded(epoch=1, checkpoint=row, records=records, prepared=(), record_seq=len(records))


def without_checkpoint() -> Loaded:
    """A bot that was killed before its first checkpoint."""
    return loaded(halted_desk(cash_gained=0).journal, None)


def joined_since() -> tuple[Desk, CoordinatorState]:
    """A bot that was killed before the first checkpoint that knows of its second market."""
    before = desk_before()
    desk = joined(before)
    tell(desk, yes=20, other_yes=50, other_no=0)
    tell(desk, yes=20, other_yes=45)
    return desk, before.core.state()


def of_a_joined_market() -> Loaded:
    desk, state = joined_since()
    return loaded(desk.journal, state)


def of_an_older_version() -> Loaded:
    """Its checkpoint names no market."""
    desk, state = joined_since()
    return loaded(desk.journal, msgspec.structs.replace(state, markets=()))


@pytest.mark.parametrize("journal", [without_checkpoint, of_a_joined_market, of_an_older_version])
def test_people_are_told_what_the_next_start_finds(journal: Callable[[], Loaded]) -> None:
    left = journal()
    start, alone = rebuild(left, MARKETS, LIMITS).account, rebuild_alone(left, LIMITS).account
    assert "-5 of" in start.halt_reason
    assert "-5 of" in alone.halt_reason
    assert (alone.halted_ns, alone.drift, alone.offsets) == (start.halted_ns, start.drift, start.offsets)


def test_a_token_without_a_name_is_called_by_its_id() -> None:
    assert "-5 of other-yes" in rebuild_alone(of_a_joined_market(), LIMITS).account.halt_reason


def test_a_name_on_record_is_told() -> None:
    desk, state = joined_since()
    named = msgspec.structs.replace(state, markets=desk.core.state().markets)
    assert "-5 of snow YES" in rebuild_alone(loaded(desk.journal, named), LIMITS).account.halt_reason
