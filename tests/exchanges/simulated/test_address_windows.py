"""Windows per address: nothing beyond a limit passes, nothing within is held back, and memory is bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos
from tbot.exchanges.simulated import address_windows
from tbot.exchanges.simulated.address_windows import (
    CLOB,
    KINDS,
    LONG_WINDOW_NS,
    WINDOW_NS,
    AddressWindows,
    Kind,
    WindowSet,
    WindowSettings,
)

START_NS = 1_790_000_000 * NANOS_PER_S
SMALL = WindowSettings(
    limits=WindowSet.PRODUCTION, per_10_s={"book": 3, "ledger": 4, "data_orders": 3, "clob": 7, "post_order": 2}
)
REQUESTS = [
    ("GET", "/book"),
    ("GET", "/data/orders"),
    ("GET", "/data/trades"),
    ("POST", "/order"),
    ("DELETE", "/order"),
    ("GET", "/gamma/markets/slug/rain"),
]
# Gaps around the window's length, where an error of one would show.
GAPS_MS = st.sampled_from([0, 1, 999, 1_000, 3_333, 5_000, 9_999, 10_000])
STREAMS = st.lists(st.tuples(GAPS_MS, st.sampled_from(["ann", "bob"]), st.sampled_from(REQUESTS)), max_size=60)


class Oracle:
    """Every request that passed, for ever, and what may pass beside it, counted anew each time."""

    def __init__(self, kinds: list[Kind]) -> None:
        self._kinds = kinds
        self._passed: list[tuple[str, tuple[str, str], int]] = []

    def may_pass(self, address: str, request: tuple[str, str], now_ns: int) -> bool:
        """Tell whether no window would hold more than its number."""
        return all(
            self._in_window(address, kind, now_ns, window_ns) < count
            for kind in self._kinds
            if self._is_of(kind, request)
            for count, window_ns in ((kind.per_10_s, WINDOW_NS), (kind.per_10_min, LONG_WINDOW_NS))
            if count
        )

    def remember(self, address: str, request: tuple[str, str], now_ns: int) -> None:
        """Count a request that passed."""
        self._passed.append((address, request, now_ns))

    def _in_window(self, address: str, kind: Kind, now_ns: int, window_ns: int) -> int:
        return sum(
            who == address and self._is_of(kind, request) and now_ns - window_ns < at_ns <= now_ns
            for who, request, at_ns in self._passed
        )

    def _is_of(self, kind: Kind, request: tuple[str, str]) -> bool:
        if kind.name == CLOB.name:
            return not request[1].startswith("/gamma")
        return kind.counts(*request)


def run(stream: list[tuple[int, str, tuple[str, str]]]) -> list[tuple[bool, bool]]:
    """Send a stream; for each request tell whether it passed and whether the oracle let it pass."""
    windows, oracle, now_ns = AddressWindows(SMALL), Oracle(list(SMALL.kinds())), START_NS
    verdicts = []
    for gap_ms, address, request in stream:
        now_ns += gap_ms * NANOS_PER_MS
        may_pass = oracle.may_pass(address, request, now_ns)
        has_passed = windows.enter(address, *request, Nanos(now_ns)) == 0
        if has_passed:
            oracle.remember(address, request, now_ns)
        verdicts.append((has_passed, may_pass))
    return verdicts


@given(stream=STREAMS)
@settings(max_examples=25, deadline=None)
def test_what_passes_is_exactly_what_keeps_every_window(stream: list[tuple[int, str, tuple[str, str]]]) -> None:
    assert all(has_passed == may_pass for has_passed, may_pass in run(stream))


@given(stream=STREAMS)
@settings(max_examples=25, deadline=None)
def test_the_wait_told_is_the_shortest_that_helps(stream: list[tuple[int, str, tuple[str, str]]]) -> None:
    windows, now_ns = AddressWindows(SMALL), START_NS
    for gap_ms, address, request in stream:
        now_ns += gap_ms * NANOS_PER_MS
        wait_ns = windows.enter(address, *request, Nanos(now_ns))
        if wait_ns:
            assert windows.enter(address, *request, Nanos(now_ns + wait_ns - 1)) == 1
            now_ns += wait_ns
            assert windows.enter(address, *request, Nanos(now_ns)) == 0


def off_by_one(honest: Callable[..., int]) -> Callable[..., int]:
    def count_one_less(log: Sequence[Nanos], kind: Kind, now_ns: Nanos) -> int:
        return honest(list(log)[:-1], kind, now_ns)

    return count_one_less


def closed_at_both_ends(honest: Callable[..., int]) -> Callable[..., int]:
    return lambda log, kind, now_ns: honest(log, kind, now_ns - 1)


@pytest.mark.parametrize("bug", [off_by_one, closed_at_both_ends])
def test_a_window_that_miscounts_is_seen(
    monkeypatch: pytest.MonkeyPatch, bug: Callable[[Callable[..., int]], Callable[..., int]]
) -> None:
    monkeypatch.setattr(address_windows, "_wait_ns", bug(address_windows._wait_ns))
    stream = [(gap_ms, "ann", ("GET", "/book")) for gap_ms in (0, 0, 0, 0, 10_000, 0)]
    assert any(has_passed != may_pass for has_passed, may_pass in run(stream))


def most(passed: dict[int, int], seconds: int) -> int:
    """Tell how many passed in the busiest so many seconds."""
    return max(sum(passed.get(start + n, 0) for n in range(seconds)) for start in range(0, 700, 7))


def test_ten_minutes_are_limited_as_well() -> None:
    windows = AddressWindows(WindowSettings(limits=WindowSet.PRODUCTION, scale=0.001))
    passed = {
        second: sum(
            not windows.enter("ann", "POST", "/order", Nanos(START_NS + second * NANOS_PER_S)) for _ in range(2)
        )
        for second in range(1_300)
    }
    # 5 in ten seconds, and 120 in ten minutes: after four minutes at full speed nothing passes for six.
    assert (most(passed, 10), most(passed, 600)) == (5, 120)
    assert sum(passed[second] for second in range(250)) == 120
    assert sum(passed[second] for second in range(250, 600)) == 0


def test_off_counts_nothing_and_control_is_nobodys_business() -> None:
    off, on = AddressWindows(WindowSettings()), AddressWindows(SMALL)
    for _ in range(2_000):
        assert off.enter("ann", "GET", "/ok", Nanos(START_NS)) == 0
        assert on.enter("ann", "POST", "/control/fault", Nanos(START_NS)) == 0
    assert (off.stamps, on.stamps) == (0, 0)


def test_numbers_are_those_of_the_reference() -> None:
    table = {kind.name: (kind.per_10_s, kind.per_10_min) for kind in (*KINDS, CLOB)}
    assert table["everything"] == (15_000, 0)
    assert table["clob"] == (9_000, 0)
    assert table["ok"] == (100, 0)
    assert [table[name][0] for name in ("book", "books", "tick_size", "ledger")] == [1_500, 500, 200, 900]
    assert table["post_order"] == table["delete_order"] == (5_000, 120_000)
    assert [table[name] for name in ("post_orders", "delete_orders")] == [(2_000, 21_000), (2_000, 15_000)]
    assert [table[name] for name in ("cancel_all", "cancel_market_orders")] == [(250, 6_000), (1_500, 21_000)]
    assert [table[name][0] for name in ("gamma", "gamma_events", "gamma_markets", "gamma_lists")] == [
        4_000,
        500,
        300,
        900,
    ]


def test_memory_is_bounded_by_addresses_and_by_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_windows, "ADDRESSES_MAX", 50)
    monkeypatch.setattr(address_windows, "STAMPS_MAX", 300)
    windows = AddressWindows(SMALL)
    for number in range(1_000):
        windows.enter(f"10.0.0.{number}", "GET", "/book", Nanos(START_NS + number))
        held = sum(len(log) for logs in windows._passed.values() for log in logs.values())
        assert windows.stamps == held <= 300
        assert len(windows._passed) <= 50
    # Who asked last is remembered best.
    last = "10.0.0.999"
    assert [windows.enter(last, "GET", "/book", Nanos(START_NS + 1_000)) == 0 for _ in range(3)] == [True, True, False]


def test_what_is_older_than_its_window_is_forgotten() -> None:
    windows = AddressWindows(WindowSettings(limits=WindowSet.PRODUCTION))
    for second in range(2_000):
        windows.enter("ann", "GET", "/book", Nanos(START_NS + second * NANOS_PER_S))
    assert windows.stamps == 3 * 10  # one a second, counted as a book, as the CLOB's, as anything
    with pytest.raises(ValueError, match="found 'bok'"):
        WindowSettings(per_10_s={"bok": 1})
