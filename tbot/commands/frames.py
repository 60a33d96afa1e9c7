"""`tbot frames`: what recordings hold, and whether their books add up."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from tbot.errors import ConfigError
from tbot.exchanges.polymarket.survey import MS_PER_S, CaptureReport, CaptureSurvey
from tbot.store.recordings import LineReader
from tbot.ui.terminal import tell

KINDS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


class FramesOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    captures: tuple[Path, ...]
    is_json: bool


def survey_captures(options: FramesOptions) -> int:
    """Read recordings and print what they hold.

    Returns:
        0, or 1 when something of them could not be used: a line, a frame, or the rest of a file that is cut.

    Raises:
        ConfigError: A file cannot be opened.
    """
    reports = {str(path): survey(path) for path in options.captures}
    if options.is_json:
        content: list[dict[str, Any]] = [_row(name, report) for name, report in reports.items()]
        tell(msgspec.json.encode(content).decode() + "\n", sys.stdout)
    else:
        tell("\n".join(_page(name, report) for name, report in reports.items()), sys.stdout)
    return 1 if any(report.decode_errors for report in reports.values()) else 0


def survey(path: Path) -> CaptureReport:
    """Read one recording, a file or a folder of segments; what comes before a fault of a file counts.

    Raises:
        ConfigError: It cannot be opened, or is a folder without recordings.
    """
    found = CaptureSurvey()
    try:
        for each in _files(path):
            if each is not path:
                found.begin(each.name)
            with each.open("rb") as file:
                for line in _lines(file, each, found):
                    found.add(line)
    except OSError as error:
        name = error.filename or path
        raise ConfigError(f"{name}: expected a readable recording, found: {error.strerror or error}") from error
    return found.report()


# The names of segments sort as their times do.
def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(each for each in path.iterdir() if each.name.endswith(KINDS) and each.is_file())
    if not files:
        raise ConfigError(f"{path}: expected a recording, found a folder without any file {', '.join(KINDS)}")
    return files


def _lines(file: IO[bytes], path: Path, found: CaptureSurvey) -> Iterator[bytes]:
    match path.suffix:
        case ".zst":
            reader = LineReader(file)
            yield from reader
            if reader.fault:
                found.fail(f"the file is {reader.fault}; what came before was read")
        case ".gz":
            try:
                with gzip.open(file, "rb") as plain:
                    yield from plain
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                found.fail(f"the file is cut or damaged: {error}; what came before was read")
        case _:
            yield from file


def _row(name: str, report: CaptureReport) -> dict[str, Any]:
    shares: dict[str, Any] = {
        "capture": name,
        "snapshots_equal_share": _share(report.snapshots_equal, report.snapshots),
        "hash_verified_share": _share(report.hash_verified, report.increments),
        "messages_per_s": report.messages_per_s,
    }
    return {**shares, **msgspec.to_builtins(report)}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _page(name: str, report: CaptureReport) -> str:
    rows = (
        ("lines", f"{report.lines:,}"),
        ("frames", f"{report.frames:,}  ({_listed(report.events)})"),
        ("unknown types", _listed(report.unknown)),
        ("foreign, remarks", f"{report.foreign:,}, {report.remarks:,}"),
        ("decode errors", f"{report.decode_errors:,}"),
        ("assets", f"{report.assets:,}"),
        ("time span", _span(report)),
        ("snapshots equal", _of(report.snapshots_equal, report.snapshots)),
        ("hash-verified", f"{_of(report.hash_verified, report.increments)} increments"),
        ("unverifiable", f"{report.unverifiable:,} increments, {report.late:,} events too late"),
        ("mismatches", f"best prices {report.best_mismatches:,}, mirror {report.mirror_mismatches:,}"),
        ("crossed moments", f"{report.crossed:,}"),
    )
    lines = "".join(f"  {what:<18}{text}\n" for what, text in rows)
    return f"{name}\n{lines}" + "".join(f"  ! {sentence}\n" for sentence in report.errors)


def _listed(counts: dict[str, int]) -> str:
    # Types come from the file: printable characters only.
    return ", ".join(f"{ascii(kind)[1:-1][:40]} {count:,}" for kind, count in counts.items()) or "none"


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})" if whole else "none to compare"


def _span(report: CaptureReport) -> str:
    if not report.last_ms:
        return "none"
    first, last = (datetime.fromtimestamp(ms / MS_PER_S, UTC) for ms in (report.first_ms, report.last_ms))
    seconds = (report.last_ms - report.first_ms) / MS_PER_S
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC, {seconds:,.1f} s, {report.messages_per_s:,.1f} frames/s"
