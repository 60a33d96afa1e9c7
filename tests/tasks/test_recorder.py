"""The recorder writes what it is given, counts what it cannot keep, and never makes anybody wait."""

import random
import threading
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tbot.core.units import Nanos
from tbot.store.recordings import HOUR_NS, LineReader, RecordedFrame, RecorderSettings, SegmentWriter, segment_name
from tbot.tasks.recorder import WRITE_S, Recorder, recording
from tbot.tasks.supervisor import Policy


class FullDisk(SegmentWriter):
    """Takes so many batches, then refuses."""

    def __init__(self, folder: Path, batches: int) -> None:
        super().__init__(folder, level=1)
        self.left = batches

    def append(self, frames: list[RecordedFrame]) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")
        super().append(frames)


class HungDisk(SegmentWriter):
    """Takes nothing until released."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, level=1)
        self.released = threading.Event()

    def append(self, frames: list[RecordedFrame]) -> None:
        self.released.wait(10)


class BrokenWriter(SegmentWriter):
    """Fails in a way that nobody thought of."""

    def append(self, frames: list[RecordedFrame]) -> None:
        raise RuntimeError("planted")


def frames(count: int, start_ns: int = 0, step_ns: int = 1) -> list[RecordedFrame]:
    return [
        RecordedFrame(received_ns=Nanos(start_ns + i * step_ns), channel="market", connection=1, frame=f"[{i}]")
        for i in range(count)
    ]


def read(path: Path) -> tuple[list[str], str]:
    with path.open("rb") as file:
        reader = LineReader(file)
        texts = [msgspec.json.decode(line, type=RecordedFrame).frame for line in reader]
        return texts, reader.fault


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def recorder_in(folder: Path, writer: SegmentWriter | None = None, buffer_frames: int = 100) -> Recorder:
    settings = RecorderSettings(folder=str(folder), frame_s=0.01, buffer_frames=buffer_frames)
    return Recorder(settings=settings, writer=writer or SegmentWriter(folder, level=3))


async def run_briefly(recorder: Recorder, texts: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        for text in texts:
            recorder.on_raw(text, Nanos(1), 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path)
    await run_briefly(recorder, ["[1]", "[2]"])
    assert read(only_file(tmp_path)) == (["[1]", "[2]"], "")
    assert (recorder.written, recorder.dropped, recorder.fault) == (2, 0, "")


async def test_a_full_buffer_drops_and_counts(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path, buffer_frames=3)
    await run_briefly(recorder, ["[]"] * 10)
    assert (recorder.written, recorder.dropped) == (3, 7)


async def test_a_full_disk_ends_recording_and_nothing_else(tmp_path: Path) -> None:
    recorder = recorder_in(tmp_path, FullDisk(tmp_path, batches=1))
    recorder.on_raw("[1]", Nanos(1), 1)
    await recorder._write()
    recorder.on_raw("[2]", Nanos(2), 1)
    with trio.fail_after(5):
        await recorder.run()  # returns: nothing is left to do
    recorder.on_raw("[3]", Nanos(3), 1)
    assert (recorder.written, recorder.dropped) == (1, 2)
    assert "No space left" in recorder.fault
    assert read(only_file(tmp_path)) == (["[1]"], "")


async def test_a_hung_disk_holds_nobody_up(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    writer = HungDisk(tmp_path)
    recorder = recorder_in(tmp_path, writer)
    recorder.on_raw("[1]", Nanos(1), 1)
    try:
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await recorder.run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(recorder.settings.frame_s)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()  # the end of the run, in the middle of a write
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(WRITE_S)
        assert recorder.faulted.is_set()
        assert "took longer than 10 s" in recorder.fault
        assert recorder.dropped == 1
    finally:
        writer.released.set()


@pytest.mark.parametrize("kind", [FullDisk, BrokenWriter])
async def test_no_failure_of_the_recorder_reaches_those_it_records(tmp_path: Path, kind: type[SegmentWriter]) -> None:
    noted: list[str] = []
    policy = Policy(rng=random.Random(0), note=lambda what, name, causes: noted.append(f"{name} {what}"))
    recorder = recorder_in(tmp_path, kind(tmp_path, 0))
    async with recording(recorder, policy):
        take = recorder.connection()
        take("[1]", Nanos(1))
        await trio.sleep(0.1)
        take("[2]", Nanos(2))  # whoever trades goes on
    assert (recorder.written, recorder.dropped) in ((0, 2), (0, 0))
    assert bool(recorder.fault) != ("recorder fault" in noted)


async def test_connections_are_told_apart_and_long_messages_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tbot.tasks.recorder.BUFFER_CHARS", 10)
    recorder = recorder_in(tmp_path)
    first, second = recorder.connection(), recorder.connection()
    first("[1]", Nanos(1))
    second("[22222222]", Nanos(2))
    second("[3]", Nanos(3))
    await recorder._write()
    second("[4]", Nanos(4))
    await recorder._write()
    recorder.writer.close()
    with only_file(tmp_path).open("rb") as file:
        rows = [msgspec.json.decode(line, type=RecordedFrame) for line in LineReader(file)]
    assert [(row.connection, row.frame) for row in rows] == [(1, "[1]"), (2, "[22222222]"), (2, "[4]")]
    assert recorder.dropped == 1


def test_each_hour_has_its_segment_and_names_sort_as_times(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, level=3)
    writer.append(frames(6, start_ns=HOUR_NS * 480_000, step_ns=HOUR_NS // 2))
    writer.close()
    paths = sorted(tmp_path.iterdir())
    assert [read(path)[0] for path in paths] == [["[0]", "[1]"], ["[2]", "[3]"], ["[4]", "[5]"]]
    assert segment_name(1_764_115_200 * 10**9, 0) == "2025-11-26T00-00-00Z-000.jsonl.zst"


def test_a_later_run_never_touches_an_earlier_segment(tmp_path: Path) -> None:
    for _ in range(2):
        writer = SegmentWriter(tmp_path, level=3)
        writer.append(frames(1))
        writer.close()
    assert [path.name[-13:-10] for path in sorted(tmp_path.iterdir())] == ["000", "001"]


def test_a_crash_at_any_byte_loses_at_most_the_open_frame(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, level=3)
    for i in range(3):
        writer.append(frames(2, start_ns=i))
    writer.close()
    (path,) = tmp_path.iterdir()
    data, ends = path.read_bytes(), 0
    cut = tmp_path / "cut.jsonl.zst"
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        texts, fault = read(cut)
        assert texts == ["[0]", "[1]"] * (len(texts) // 2)
        ends += not fault
    assert ends == 4  # empty, and after each of the three frames
