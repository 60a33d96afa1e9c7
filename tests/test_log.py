"""Logs reach file and terminal, carry their task, and let no secret out, wherever it hides."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import unicodedata
import urllib.parse
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as gen

from tbot.errors import ConfigError
from tbot.log import Logs, set_up, text_clean
from tbot.secret import Secret

KEY = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
PHRASE = "open sesame/please+now"
log = structlog.get_logger()


class Wallet(msgspec.Struct):
    name: str
    private_key: str = KEY


def logs_to(folder: Path, level: str = "debug") -> tuple[Logs, io.StringIO]:
    terminal = io.StringIO()
    return set_up(file=folder / "log", terminal=terminal, level=level, secrets=[KEY, PHRASE]), terminal


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_an_event_is_a_json_line_in_the_file_and_a_short_line_on_the_terminal(tmp_path: Path) -> None:
    logs, terminal = logs_to(tmp_path)
    with logs:
        log.warning("feed.stale", token_id="7", age_ms=31)
    (event,) = lines(tmp_path)
    clock = event.pop("at")[11:19]
    assert event == {"level": "warning", "event": "feed.stale", "token_id": "7", "age_ms": 31}
    assert terminal.getvalue() == f"{clock} warning  feed.stale token_id=7 age_ms=31\n"


def test_a_secret_learnt_later_is_cut_out_from_then_on(tmp_path: Path) -> None:
    logs, terminal = logs_to(tmp_path)
    with logs:
        logs.hide("derived/secret+1", "short")
        log.warning("a.b", text=f"Illegal header value b'derived/secret+1', not {PHRASE}, but short")
    (event,) = lines(tmp_path)
    assert event["text"] == "Illegal header value b'***', not ***, but short"
    assert "derived" not in terminal.getvalue()


def test_the_file_keeps_debug_while_the_terminal_shows_its_own_level(tmp_path: Path) -> None:
    logs, terminal = logs_to(tmp_path, level="warning")
    with logs:
        log.debug("a.b")
        log.error("c.d")
    assert [event["event"] for event in lines(tmp_path)] == ["a.b", "c.d"]
    assert "a.b" not in terminal.getvalue()
    assert "c.d" in terminal.getvalue()


def test_nothing_is_written_before_set_up_and_after_close(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.critical("too.early")
    logs, terminal = logs_to(tmp_path)
    logs.close()
    logs.close()
    log.critical("too.late")
    assert lines(tmp_path) == []
    assert terminal.getvalue() == ""
    assert capsys.readouterr() == ("", "")


async def test_events_name_their_task_its_time_and_what_it_bound(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    async def child() -> None:
        structlog.contextvars.bind_contextvars(unit="desk")
        log.info("child.said")

    logs, _ = logs_to(tmp_path)
    with logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, name="feed")
            await trio.sleep(3)
            log.info("parent.said")
    said, parent = lines(tmp_path)
    assert (said["task"], said["unit"]) == ("feed", "desk")
    assert "unit" not in parent
    assert parent["trio_s"] == said["trio_s"] + 3


def test_the_file_is_ours_alone_even_when_an_older_one_was_open_to_all(tmp_path: Path) -> None:
    (tmp_path / "log").touch(mode=0o644)
    logs_to(tmp_path)[0].close()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_log_file_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a log file to append to, found: No such file"):
        set_up(file=tmp_path / "none" / "log", terminal=None)
    (tmp_path / "link").symlink_to("/dev/null")
    with pytest.raises(ConfigError, match="found: Too many levels of symbolic links"):
        set_up(file=tmp_path / "link", terminal=None)


def test_a_log_file_of_another_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(ConfigError, match="expected a log file of ours, found: Operation not permitted; move it away"):
        set_up(file=tmp_path / "log", terminal=None)


def test_lines_that_cannot_be_written_are_counted_and_stop_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    logs, terminal = logs_to(tmp_path)
    with logs:
        monkeypatch.setattr(os, "write", full)
        terminal.close()
        log.info("order.submitted")
        monkeypatch.undo()
    assert logs.lost == 2


def key_forms() -> list[Any]:
    bare = KEY.removeprefix("0x")
    return [
        KEY, bare, bare.upper(), int(bare, 16), PHRASE, PHRASE.encode().hex(), urllib.parse.quote_plus(PHRASE),
        base64.b64encode(bytes.fromhex(bare)).decode(), base64.urlsafe_b64encode(PHRASE.encode()).decode(),
        bytes.fromhex(bare), Secret(KEY), Wallet(name="x"), ValueError(KEY), {"deep": [{"er": (KEY,)}]}, {KEY: 1},
        {KEY}, f"GET /?p={urllib.parse.quote(PHRASE)}",
    ]  # fmt: skip


def raise_nested(text: str) -> None:
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ExceptionGroup("both", [ValueError(f"bad {text}"), RuntimeError("plain")]) from error


def leaks(text: str) -> bool:
    flat = text.lower()
    bare = KEY.removeprefix("0x")
    forms = [
        bare,
        str(int(bare, 16)),
        PHRASE,
        PHRASE.encode().hex(),
        base64.b64encode(bytes.fromhex(bare)).decode()[:40],
    ]
    forms += [urllib.parse.quote_plus(PHRASE), base64.b64encode(PHRASE.encode()).decode()[:24]]
    return any(form.lower() in flat for form in forms)


@pytest.mark.parametrize("value", key_forms(), ids=lambda value: type(value).__name__)
def test_no_known_secret_gets_out_in_any_spelling_or_nesting(tmp_path: Path, value: Any) -> None:
    logs, terminal = logs_to(tmp_path)
    with logs:
        log.info("some.thing", innocent=value, text=f"see {value!r}", nested={"a": [value]})
        log.info(f"event.{value}")
    written = (tmp_path / "log").read_text() + terminal.getvalue()
    assert "some.thing" in written
    assert not leaks(written)


def test_no_known_secret_gets_out_of_an_exception_its_cause_or_its_group(tmp_path: Path) -> None:
    logs, terminal = logs_to(tmp_path)
    with logs:
        try:
            raise_nested(KEY)
        except ExceptionGroup:
            log.exception("task.crashed")
    (event,) = lines(tmp_path)
    assert event["error"] == "ValueError: bad ***; RuntimeError: plain"
    assert "KeyError" in event["exception"]
    assert "Traceback" not in terminal.getvalue()
    assert not leaks((tmp_path / "log").read_text() + terminal.getvalue())


def test_the_judge_of_leaks_sees_a_leak(tmp_path: Path) -> None:
    with set_up(file=tmp_path / "log", terminal=None, secrets=[]):
        log.info("some.thing", innocent=KEY)
    assert leaks((tmp_path / "log").read_text())


@pytest.mark.parametrize(
    "key",
    ["api_key", "apiKey", "POLY_PASSPHRASE", "secret", "Authorization", "private_key", "POLY_SIGNATURE", "Cookie"],
)
def test_a_field_with_a_secret_name_is_cut_out_whatever_it_holds(tmp_path: Path, key: str) -> None:
    with logs_to(tmp_path)[0]:
        log.info("request.sent", headers={key: "unknown value"}, **{key: ["unknown value"]})
    (event,) = lines(tmp_path)
    assert event["headers"] == {key: "***"}
    assert event[key] == "***"


def test_innocent_fields_stay_readable(tmp_path: Path) -> None:
    with logs_to(tmp_path)[0]:
        log.info(
            "order.submitted", signature_type=2, big=2**255, n=-7, ok=True, f=0.5, none=None, items=({"b", "a"}, b"xy")
        )
    (event,) = lines(tmp_path)
    kept = {key: event[key] for key in ("signature_type", "big", "n", "ok", "f", "none", "items")}
    assert kept == {
        "signature_type": 2, "big": str(2**255), "n": -7, "ok": True, "f": 0.5, "none": None,
        "items": [["a", "b"], "<2 bytes>"],
    }  # fmt: skip


def test_a_structure_without_end_is_cut(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with logs_to(tmp_path)[0]:
        log.info("some.thing", loop=loop, half="\ud800")
    assert len(lines(tmp_path)) == 1


def test_libraries_are_heard_from_warning_up_through_the_same_redaction(tmp_path: Path) -> None:
    library = logging.getLogger("some.package")
    with logs_to(tmp_path)[0]:
        library.info("quiet")
        library.warning("key is %s", KEY)
        bridge = logging.getLogger().handlers[-1]  # alone: pytest's own handler raises on such a record
        bridge.handle(logging.LogRecord("some.package", 30, "f.py", 1, "%d misfits", ("no number",), None))
        library.critical("gone", exc_info=ValueError(PHRASE))
        logging.getLogger("py_clob_client.http_helpers").error("the whole body")
    library.warning("after close")
    first, second, third = lines(tmp_path)
    assert (first["level"], first["logger"], first["text"]) == ("warning", "some.package", "key is ***")
    assert second["text"] == "%d misfits"
    assert (third["level"], third["error"]) == ("critical", "ValueError: ***")


def test_a_secret_too_short_to_cut_out_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="too short"):
        set_up(file=None, terminal=None, secrets=["abc"])


CLEANED = {
    "colour": ("\x1b[31mred\x1b[0m", "red"),
    "eight-bit sequence": ("\x9b2Jgone", "gone"),
    "title": ("\x1b]0;owned\x07ok", "ok"),
    "clipboard, unended": ("a\x1b]52;c;aGk", "a"),
    "link": ("\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\", "click"),
    "bidirectional override": ("pay \u202eevil\u202c now\u2066!", "pay evil now!"),
    "zero width": ("a\u200bb\ufeffc", "abc"),
    "lines": ("one\r\ntwo\u2028three", "one  two three"),
    "bell and delete": ("\x07a\x7fb\x00", "ab"),
    "half a pair": ("a\ud800b", "ab"),
    "plain": ("Will São Paulo win? 日本 🎉", "Will São Paulo win? 日本 🎉"),
    "nested": ("\x1b[3\x1b[1m1mx", "31mx"),
    "cut": ("x" * 41, "x" * 39 + "…"),
}


@pytest.mark.parametrize("case", CLEANED)
def test_outside_text_cannot_command_a_terminal(case: str) -> None:
    text, clean = CLEANED[case]
    assert text_clean(text, 40) == clean


@given(text=gen.text(gen.characters() | gen.sampled_from("\x1b[]\x9b\x07\\;mJ\u202e")), limit=gen.integers(1, 50))
def test_cleaned_text_holds_no_control_fits_and_stays_as_it_is(text: str, limit: int) -> None:
    clean = text_clean(text, limit)
    assert len(clean) <= limit
    assert all(
        unicodedata.category(char)[0] != "C" and unicodedata.category(char) not in ("Zl", "Zp") for char in clean
    )
    assert text_clean(clean, limit) == clean


def test_a_terminal_line_is_short_and_clean_whatever_an_event_holds(tmp_path: Path) -> None:
    logs, terminal = logs_to(tmp_path)
    with logs:
        log.info("market.loaded", title="\x1b[2J\n" + "x" * 5000)
    (line,) = terminal.getvalue().splitlines()
    assert len(line) == 400
    assert "\x1b" not in line
