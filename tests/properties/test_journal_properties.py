"""The journal under crashes, kills and bit rot: what was acknowledged is loaded, or the file is refused."""

import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.messages import ClientOrderId
from tbot.core.units import Nanos
from tbot.errors import StateCorrupt
from tbot.store.journal import Store
from tbot.store.rows import CheckpointRow, Loaded, PreparedRow, RecordRow, Row

FILE = "journal.sqlite"
SIDE_FILES = (f"{FILE}-wal", f"{FILE}-shm")
FOREVER = 1_000_000
NEXT = RecordRow(seq=61, at_ns=Nanos(61), kind="Fill", payload=b"next")

# Appends groups for ever and says which record is durable, after `write` returned.
APPENDER = """
import sys
from pathlib import Path
from tbot.store.journal import Store
from tbot.store.rows import CheckpointRow, RecordRow

store = Store.open(Path(sys.argv[1]), "me")
seq = store.load().record_seq
print(seq, flush=True)
while True:
    rows = []
    for _ in range(1 + seq % 7):
        seq += 1
        rows.append(RecordRow(seq=seq, at_ns=seq, kind="fact", payload=b"%d" % seq * (seq % 90)))
    if seq % 10 == 0:
        rows.append(CheckpointRow(seq=seq, at_ns=seq, payload=b"%d" % seq))
    store.write(rows)
    print(seq, flush=True)
"""


@st.composite
def some_groups(draw: st.DrawFn) -> list[list[Row]]:
    """Groups as the writer makes them: records count on, ids come once, a checkpoint covers what was written."""
    groups: list[list[Row]] = []
    seq = orders = 0
    for size in draw(st.lists(st.integers(1, 5), max_size=6)):
        group: list[Row] = []
        for kind in draw(st.lists(st.sampled_from("rrrpc"), min_size=size, max_size=size)):
            at_ns, payload = Nanos(draw(st.integers(0, 2**62))), draw(st.binary(max_size=50))
            if kind == "r":
                seq += 1
                group.append(RecordRow(seq=seq, at_ns=at_ns, kind=draw(st.text(max_size=5)), payload=payload))
            elif kind == "p":
                orders += 1
                group.append(PreparedRow(client_order_id=ClientOrderId(f"o{orders}"), at_ns=at_ns, payload=payload))
            else:
                group.append(CheckpointRow(seq=seq, at_ns=at_ns, payload=payload))
        groups.append(group)
    return groups


def records_of(groups: list[list[Row]]) -> tuple[RecordRow, ...]:
    return tuple(row for group in groups for row in group if isinstance(row, RecordRow))


def newest_checkpoint(groups: list[list[Row]]) -> CheckpointRow | None:
    found = [row for group in groups for row in group if isinstance(row, CheckpointRow)]
    return max(reversed(found), key=lambda row: row.seq, default=None)


@contextmanager
def folder_of(files: dict[str, bytes]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in files.items():
            (folder / file).touch(0o600)
            (folder / file).write_bytes(data)
        yield folder


def read_files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def everything_in(folder: Path) -> tuple[Loaded, tuple[RecordRow, ...]]:
    with closing(Store.open(folder, "me")) as store:
        return store.load(), store.records(limit=FOREVER)


@given(groups=some_groups(), crash_after=st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_any_prefix_of_groups_is_loaded_as_written_after_a_crash(groups: list[list[Row]], crash_after: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prefix = groups[:crash_after]
        with closing(Store.open(folder, "me")) as store:
            for group in prefix:
                store.write(group)
            files = read_files(folder)
    with folder_of(files) as crashed:
        loaded, records = everything_in(crashed)
    assert records == records_of(prefix)
    assert loaded.checkpoint == newest_checkpoint(prefix)
    assert loaded.records == tuple(row for row in records if row.seq > loaded.checkpoint_seq)


@given(groups=some_groups(), cut=st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_reopening_between_groups_changes_nothing(groups: list[list[Row]], cut: int) -> None:
    with tempfile.TemporaryDirectory() as name, closing(Store.open(None, "me")) as at_once:
        for part in (groups[:cut], groups[cut:]):
            with closing(Store.open(Path(name), "me")) as store:
                for group in part:
                    store.write(group)
        for group in groups:
            at_once.write(group)
        assert everything_in(Path(name)) == (at_once.load(), at_once.records(limit=FOREVER))


@functools.cache
def image(is_crashed: bool) -> dict[str, bytes]:
    """Files of a journal with everything in it, closed or as a crash leaves them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(Store.open(folder, "me")) as store:
            write_history(store, first=1, last=40)
        with closing(Store.open(folder, "me")) as store:
            write_history(store, first=41, last=60)
            if is_crashed:
                return read_files(folder)
        return read_files(folder)


def write_history(store: Store, *, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        payload = b"fact %d " % seq * (seq % 13) * 10
        rows: list[Row] = [RecordRow(seq=seq, at_ns=Nanos(seq), kind="Fill", payload=payload)]
        if seq % 4 == 0:
            rows.append(PreparedRow(client_order_id=ClientOrderId(f"o{seq}"), at_ns=Nanos(seq), payload=payload))
        if seq in (10, 20, 30, 35):
            rows.append(CheckpointRow(seq=seq, at_ns=Nanos(seq), payload=b"state" * 2000))
        store.write(rows)


@functools.cache
def truth() -> tuple[Loaded, tuple[RecordRow, ...]]:
    with folder_of(image(False)) as folder:
        return everything_in(folder)


def flipped(data: bytes, flips: list[tuple[float, int]]) -> bytes:
    changed = bytearray(data)
    for where, mask in flips:
        changed[int(where * len(data))] ^= mask
    return bytes(changed)


def is_shorter_by_one_group(found: tuple[RecordRow, ...]) -> bool:
    return found == truth()[1][:-1]


some_flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)


def check_rot(is_crashed: bool, name: str, flips: list[tuple[float, int]]) -> None:
    files = dict(image(is_crashed))
    files[name] = flipped(files[name], flips)
    with folder_of(files) as folder:
        try:
            loaded, records = everything_in(folder)
            with closing(Store.open(folder, "me")) as store:
                store.write([msgspec.structs.replace(NEXT, seq=loaded.record_seq + 1)])
            grown = everything_in(folder)[1]
        except StateCorrupt:
            return
    if name.endswith("-wal") and is_shorter_by_one_group(records):
        return  # damage in the newest group of the log cannot be told from a power cut
    assert (loaded, records) == truth()
    assert grown == (*records, NEXT)


some_file = st.sampled_from([(False, FILE), (True, FILE), *((True, name) for name in SIDE_FILES)])


@given(file=some_file, flips=some_flips)
@settings(max_examples=30, deadline=None)
def test_flipped_bytes_are_refused_or_harmless(file: tuple[bool, str], flips: list[tuple[float, int]]) -> None:
    check_rot(*file, flips)


@pytest.mark.slow
@given(file=some_file, flips=some_flips)
@settings(max_examples=1000, deadline=None)
def test_flipped_bytes_are_refused_or_harmless_in_a_thousand_ways(
    file: tuple[bool, str], flips: list[tuple[float, int]]
) -> None:
    check_rot(*file, flips)


@pytest.mark.slow
def test_any_byte_of_header_and_schema_pointers_may_rot() -> None:
    data = image(False)[FILE]
    for position in range(512):
        check_rot(False, FILE, [((position + 0.5) / len(data), 0xFF)])
        check_rot(False, FILE, [((position + 0.5) / len(data), 1 << position % 8)])


def test_judge_sees_a_row_too_many() -> None:
    with folder_of(image(False)) as folder:
        with closing(Store.open(folder, "me")) as store:
            store.write([NEXT])
        assert everything_in(folder)[1] != truth()[1]


def kill_and_recover(folder: Path, acknowledgements: int) -> None:
    command = [sys.executable, "-c", APPENDER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as appender:
        assert appender.stdout is not None
        lines = [appender.stdout.readline() for _ in range(acknowledgements)]
        appender.send_signal(signal.SIGKILL)
        lines += appender.stdout.readlines()
    acknowledged = int([line for line in lines if line.endswith(b"\n")][-1])
    with closing(Store.open(folder, "me")) as store:
        loaded, records = store.load(), store.records(limit=FOREVER)
    assert loaded.record_seq >= acknowledged
    assert [row.seq for row in records] == list(range(1, loaded.record_seq + 1))
    assert all(row.payload == b"%d" % row.seq * (row.seq % 90) for row in records)
    assert loaded.checkpoint is None or loaded.checkpoint.payload == b"%d" % loaded.checkpoint_seq


def kill_repeatedly(folder: Path, rounds: int, rng: random.Random) -> None:
    for _ in range(rounds):
        kill_and_recover(folder, rng.randint(1, 60))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_no_acknowledged_row_is_lost_to_kill_9(tmp_path: Path, seed: int) -> None:
    kill_repeatedly(tmp_path, 8, random.Random(seed))


def test_no_acknowledged_row_is_lost_to_one_kill_9(tmp_path: Path) -> None:
    kill_repeatedly(tmp_path, 1, random.Random(7))
