"""`tbot frames` on hand-made recordings of every wrapping, whole, cut and damaged, and on real ones where at hand."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tbot.cli import main
from tbot.commands.frames import FramesOptions, survey, survey_captures
from tbot.core.units import Nanos
from tbot.store.recordings import RecordedFrame, SegmentWriter
from tests.captures import CAPTURES, needs

FRAMES = json.loads((Path(__file__).parents[1] / "frames" / "polymarket.json").read_text())
GOOD = [case["frame"] for case in FRAMES["market"] if case["gives"] != "BadFrame" and case["frame"]]
YES = "71321045679252212594626385532706912750332728571942532289631379312455583992563"


def book(ms: int, bids: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "event_type": "book",
        "market": "0xm",
        "asset_id": YES,
        "timestamp": str(ms),
        "bids": [{"price": p, "size": s} for p, s in bids.items()],
        "asks": [],
    } | more


def change(ms: int, price: str, size: str, best: str) -> dict[str, Any]:
    entry = {"asset_id": YES, "price": price, "size": size, "side": "BUY", "best_bid": best, "best_ask": "1"}
    return {"event_type": "price_change", "market": "0xm", "price_changes": [entry], "timestamp": str(ms)}


STREAM = [book(1_700_000_000_000, {"0.4": "5"}), change(1_700_000_000_500, "0.41", "3", "0.41")]
LAST = book(1_700_000_001_000, {"0.4": "5", "0.41": "3"})


def written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "raw": lambda frame: frame,
    "array": lambda frame: [frame],
    "object": lambda frame: {"capturedAt": 1, "payload": frame},
    "any key": lambda frame: {"at": "now", "seq": 3, "what_they_said": frame},
    "text": lambda frame: {"source": "clob", "data": json.dumps(frame)},
    "a label before": lambda frame: {"tag": "[ws-1] rx", "payload": frame},
    "a broken text before": lambda frame: {"log": "{not json", "frame": json.dumps(frame)},
    "array in a text": lambda frame: {"message": json.dumps([frame])},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_is_read(wrapping: str, tmp_path: Path) -> None:
    path = written(tmp_path / "capture.jsonl", [WRAPPINGS[wrapping](frame) for frame in [*STREAM, LAST]])
    report = survey(path)
    assert (report.lines, report.frames, report.decode_errors, report.foreign) == (3, 3, 0, 0)
    assert (report.snapshots_equal, report.snapshots, report.increments, report.assets) == (1, 1, 1, 1)
    assert report.messages_per_s == 3.0


@pytest.mark.parametrize("rest", [{}, {"bids": None, "asks": None}], ids=["left out", "null"])
@pytest.mark.parametrize("is_pushed", [True, False])
def test_books_that_call_their_sides_buys_and_sells_are_read(
    rest: dict[str, Any], is_pushed: bool, tmp_path: Path
) -> None:
    def old(frame: dict[str, Any]) -> dict[str, Any]:
        dropped = ("bids", "asks") if is_pushed else ("bids", "asks", "event_type")
        kept = {key: value for key, value in frame.items() if key not in dropped}
        return kept | {"buys": frame["bids"], "sells": frame["asks"]} | rest

    report = survey(written(tmp_path / "old.jsonl", [old(STREAM[0]), *STREAM[1:], old(LAST)]))
    assert (report.frames, report.decode_errors, report.foreign) == (3, 0, 0)
    assert (report.snapshots_equal, report.snapshots) == (1, 1)


@pytest.mark.parametrize("text", ['{"event_type": "book", "as', '[{"event_type": "bo', "{not json"])
def test_a_wrapped_frame_that_was_cut_stays_an_error(text: str, tmp_path: Path) -> None:
    report = survey(written(tmp_path / "cut.jsonl", [{"tag": "[ws-1] rx", "data": text}]))
    assert (report.frames, report.decode_errors) == (0, 1)


def test_every_committed_shape_is_read(tmp_path: Path) -> None:
    report = survey(written(tmp_path / "all.jsonl", GOOD))
    assert report.errors == ()
    assert report.events["best_bid_ask"] == 1
    assert "book_v7" in report.unknown


def test_foreign_feeds_and_remarks_are_no_errors(tmp_path: Path) -> None:
    lines = ["PONG", "", {"payload": ""}, {"payload": "PONG"}, {"stream": "trade", "data": {"p": "1"}}, [], [{"e": 1}]]
    report = survey(written(tmp_path / "mixed.jsonl", lines))
    assert (report.decode_errors, report.frames, report.remarks) == (0, 0, 4)
    assert report.foreign == 2


def test_a_lost_change_shows_in_the_next_snapshot_and_the_best_prices(tmp_path: Path) -> None:
    wrong = change(1_700_000_000_600, "0.39", "1", "0.41")
    report = survey(written(tmp_path / "lossy.jsonl", [STREAM[0], wrong, LAST]))
    assert (report.snapshots_equal, report.snapshots, report.best_mismatches) == (0, 1, 1)


def test_bad_lines_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    bad = book(1, {"0.4": "-5"})
    report = survey(written(tmp_path / "bad.jsonl", [STREAM[0], '{"event_type":', bad, *STREAM[1:], LAST]))
    assert (report.decode_errors, report.snapshots_equal) == (2, 1)
    assert [error.split(":")[0] for error in report.errors] == ["line 2", "line 3"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_compressed_recordings_are_read_up_to_a_cut(suffix: str, is_cut: bool, tmp_path: Path) -> None:
    lines = b"".join(json.dumps(frame).encode() + b"\n" for frame in [*STREAM, LAST] * 50)
    data = gzip.compress(lines) if suffix == ".gz" else zstandard.compress(lines) + zstandard.compress(lines)
    path = tmp_path / f"capture.jsonl{suffix}"
    path.write_bytes(data[:-3] if is_cut else data)
    report = survey(path)
    assert report.frames >= 149
    assert report.decode_errors == is_cut
    assert not is_cut or "what came before was read" in report.errors[0]


def test_our_own_segments_are_read(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, level=3)
    texts = [json.dumps(frame) for frame in [*STREAM, LAST]] + ["PONG"]
    writer.append([RecordedFrame(received_ns=Nanos(1), channel="market", connection=1, frame=text) for text in texts])
    writer.close()
    (path,) = tmp_path.iterdir()
    report = survey(path)
    assert (report.frames, report.remarks, report.snapshots_equal, report.decode_errors) == (3, 1, 1, 0)


HOUR_NS = 3_600 * 10**9
DAWN_NS = 1_700_000_000 * 10**9 // HOUR_NS * HOUR_NS
MINUTE_NS = 60 * 10**9
TAIL = [change(1_700_000_000_500, "0.41", "3", "0.41"), LAST]


def recorded(folder: Path, received_ns: int, frames: list[Any], connection: int = 1) -> None:
    writer = SegmentWriter(folder, level=3)
    for frame in frames:
        text = json.dumps(frame)
        row = RecordedFrame(received_ns=Nanos(received_ns), channel="market", connection=connection, frame=text)
        writer.append([row])
    writer.close()


def test_a_folder_is_one_recording_read_in_the_order_of_its_segments(tmp_path: Path) -> None:
    recorded(tmp_path, DAWN_NS + HOUR_NS + 1, TAIL)
    recorded(tmp_path, DAWN_NS + HOUR_NS - MINUTE_NS // 2, [STREAM[0]])
    (tmp_path / "notes.txt").write_text("no recording")
    report = survey(tmp_path)
    assert (report.lines, report.frames, report.decode_errors, report.assets) == (3, 3, 0, 1)
    assert (report.snapshots_equal, report.snapshots, report.increments) == (1, 1, 1)
    pieces = [survey(path) for path in tmp_path.glob("*.zst")]
    assert sum(piece.snapshots + piece.increments for piece in pieces) == 0, "alone they have nothing to compare"


LATER = [book(1_700_000_005_000, {"0.3": "7"}), book(1_700_000_006_000, {"0.3": "7"})]


@pytest.mark.parametrize(
    ("received_ns", "connection"),
    [(DAWN_NS + 2 * MINUTE_NS, 1), (DAWN_NS + 2 * HOUR_NS, 1), (DAWN_NS + HOUR_NS, 2), (DAWN_NS + HOUR_NS, 1)],
    ids=["same hour", "hours later", "new connection", "same run"],
)
def test_what_was_missed_between_runs_and_connections_is_no_fault_of_the_books(
    received_ns: int, connection: int, tmp_path: Path
) -> None:
    recorded(tmp_path, DAWN_NS + (HOUR_NS if received_ns == DAWN_NS + HOUR_NS else MINUTE_NS) - 1, [*STREAM, LAST])
    recorded(tmp_path, received_ns, LATER, connection)
    report = survey(tmp_path)
    is_same = (received_ns, connection) == (DAWN_NS + HOUR_NS, 1)
    assert (report.snapshots_equal, report.snapshots) == (2, 3 if is_same else 2)


def test_errors_of_a_folder_name_their_segments_and_the_others_are_read(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", [STREAM[0], "{"])
    written(tmp_path / "b.jsonl", [*STREAM[1:], "[", LAST])
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(json.dumps(LAST).encode() + b"\n")[:-3])
    report = survey(tmp_path)
    assert [error.split(":")[0] for error in report.errors] == [
        "a.jsonl, line 2",
        "b.jsonl, line 2",
        "c.jsonl.zst, line 0",
    ]
    assert (report.snapshots_equal, report.snapshots) == (1, 1)


def test_a_folder_without_recordings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frames", str(tmp_path)]) == 2
    assert "found a folder without any file .jsonl, .jsonl.gz, .jsonl.zst" in capsys.readouterr().err


def test_exit_codes_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = written(tmp_path / "good.jsonl", [*STREAM, LAST])
    assert main(["frames", str(good)]) == 0
    assert "1 of 1 (100.0%)" in capsys.readouterr().out
    bad = written(tmp_path / "bad.jsonl", ["{"])
    assert main(["frames", "--json", str(good), str(bad)]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["decode_errors"] for row in rows] == [0, 1]
    assert (rows[0]["snapshots_equal_share"], rows[0]["hash_verified_share"]) == (1.0, 0.0)
    assert main(["frames", str(tmp_path / "none.jsonl")]) == 2
    assert "expected a readable recording" in capsys.readouterr().err


@pytest.mark.parametrize("is_json", [False, True])
def test_a_reader_that_left_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_json: bool) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    path = written(tmp_path / "good.jsonl", STREAM)
    assert survey_captures(FramesOptions(captures=(path,), is_json=is_json)) == 0


@pytest.mark.slow
@needs("ws")
def test_real_captures_have_no_decode_errors_and_the_dense_one_verifies() -> None:
    reports = {path.name: survey(path) for path in sorted((CAPTURES / "ws").glob("**/*.jsonl.gz"))}
    assert len(reports) == 4
    assert [report.errors for report in reports.values()] == [()] * 4
    dense = reports["market-ws.jsonl.gz"]
    assert (dense.snapshots_equal, dense.snapshots) == (140, 140)
    assert dense.hash_verified / dense.increments > 0.99
    assert (dense.best_mismatches, dense.crossed, dense.unverifiable) == (0, 0, 2)
