"""Structured logs: JSON lines for machines in a file, short lines for people on the terminal, secrets cut out last.

Every module logs events, `log = structlog.get_logger()` then `log.info("order.submitted", client_order_id=...)`; this
module decides where they go. The chain, in order: bound context, task name and Trio's time, level, UTC time,
exceptions as text, redaction, output. Redaction stands last because only there is everything text: a key may hide in
the message of a library's exception as well as in a field.

Logs are for people. The audit truth is the journal; a full disk costs log lines, counted in `Logs.lost`, never a trade.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import traceback
import unicodedata
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

import msgspec
import structlog
import trio
from structlog.typing import EventDict, WrappedLogger

from tbot.errors import ConfigError
from tbot.secret import SECRET_LENGTH_MIN

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
REDACTED: Final = "***"

# `signature_type` is a small number that operators need to see; everything else of this kind stays inside.
_SECRET_KEY: Final = re.compile(
    r"secret|pass_?phrase|password|private_?key|api_?key|authorization|signature(?!_type)|mnemonic|cookie",
    re.IGNORECASE,
)
_ESCAPE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # strings: titles, clipboard
    r"|\x1b[ -/]*[0-~]"  # two-character escapes
)
_BLANKS: Final = str.maketrans("\t\n\v\f\r\x85\u2028\u2029", "        ")
_DEPTH_MAX: Final = 8
_LINE_LENGTH_MAX: Final = 400  # One event never fills a terminal; the file has it whole.
_MUTED: Final = ("py_clob_client", "py_clob_client_v2")  # They log whole bodies of requests and replies.
_INTEGER_MAX: Final = 2**63 - 1  # What every reader of JSON lines takes; larger integers are written as text.


def text_clean(text: str, limit: int) -> str:
    """Make text from outside safe and short enough for a terminal.

    Escape sequences, control and format characters (ANSI, bidirectional overrides, zero width) go, line ends and tabs
    become blanks, and what passes the limit is cut with an ellipsis.

    Args:
        text: Anything, for example the title of a market.
        limit: Most characters to return, at least 1.
    """
    visible = _ESCAPE.sub("", text).translate(_BLANKS)
    plain = "".join(char for char in visible if unicodedata.category(char)[0] != "C")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def silence() -> None:
    """Drop every event: the state before `set_up`, between runs and in tests."""
    structlog.reset_defaults()
    structlog.configure(processors=[_drop], wrapper_class=structlog.make_filtering_bound_logger(LEVELS["critical"]))


def set_up(*, file: Path | None, terminal: TextIO | None, level: str = "info", secrets: Sequence[str] = ()) -> Logs:
    """Send the events of the whole process to a file and a terminal until `Logs.close`.

    Args:
        file: JSON lines are appended here, mode 0600, from `debug` up; None = no file.
        terminal: Short lines from `level` up, usually stderr; None = no terminal.
        level: A key of `LEVELS`.
        secrets: Values to cut out of everything written, also where they stand base64, hex or URL encoded; each at
            least `SECRET_LENGTH_MIN` characters.

    Raises:
        ConfigError: The file cannot be opened, or is not ours.
    """
    assert all(len(value) >= SECRET_LENGTH_MIN for value in secrets), "too short to be told from innocent text"
    redactor = _Redactor(secrets)
    logs = Logs(
        descriptor=None if file is None else _open_private(file),
        terminal=terminal,
        terminal_level=LEVELS[level],
        redactor=redactor,
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _add_task,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _add_exception,
            redactor,
            _as_argument,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug" if file else level]),
        logger_factory=lambda *_: logs,
        # Module level loggers outlive a set-up (tests, restarts of a run), so they must look the current one up.
        cache_logger_on_first_use=False,
    )
    logs.attach_libraries()
    return logs


class Logs:
    """The open outputs of one set-up; close it, or use it as a context manager.

    Attributes:
        lost: Lines that could not be written, because the disk is full or the terminal is gone.
    """

    def __init__(
        self, *, descriptor: int | None, terminal: TextIO | None, terminal_level: int, redactor: _Redactor
    ) -> None:
        self.lost = 0
        self._redactor = redactor
        self._descriptor = descriptor
        self._terminal = terminal
        self._terminal_level = terminal_level
        self._bridge = _Bridge(level=logging.WARNING)

    def write(self, event: dict[str, Any]) -> None:
        """Write one finished event; called by structlog under the name of its level."""
        if self._descriptor is not None:
            self._write_file(self._descriptor, event)
        if self._terminal is not None and LEVELS.get(event.get("level", ""), 0) >= self._terminal_level:
            self._write_terminal(self._terminal, event)

    debug = info = warning = error = critical = write

    def hide(self, *secrets: str) -> None:
        """Cut out more values from now on: secrets that were learnt since the set-up.

        Args:
            secrets: Values of at least `SECRET_LENGTH_MIN` characters; shorter ones are left, as they could not be told
                from innocent text.
        """
        self._redactor.add([value for value in secrets if len(value) >= SECRET_LENGTH_MIN])

    def attach_libraries(self) -> None:
        """Send warnings of libraries that use the standard `logging` through the same chain, redaction included."""
        logging.getLogger().addHandler(self._bridge)

    def close(self) -> None:
        """Close the file and fall silent; the terminal is not ours to close. Twice is fine."""
        logging.getLogger().removeHandler(self._bridge)
        silence()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_file(self, descriptor: int, event: dict[str, Any]) -> None:
        # One write call a line: whole lines reach the file even when a thread logs, or the process dies after it.
        try:
            os.write(descriptor, msgspec.json.encode(event) + b"\n")
        except OSError:
            self.lost += 1

    def _write_terminal(self, terminal: TextIO, event: dict[str, Any]) -> None:
        try:
            terminal.write(_short(event) + "\n")
            terminal.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed under us
            self.lost += 1


class _Bridge(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in _MUTED:
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library whose arguments do not fit its own format string
            text = str(record.msg)
        level = next(name for name, number in reversed(LEVELS.items()) if record.levelno >= number)
        log = structlog.get_logger()
        getattr(log, level)("library.logged", logger=record.name, text=text, exc_info=record.exc_info)


class _Redactor:
    """Turns an event into plain data without secrets: by the name of a field, and by the secret values themselves."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Sequence[str]) -> None:
        self._secrets += tuple(secrets)
        spellings = sorted({form for secret in self._secrets for form in _spellings(secret)}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, spellings)), re.IGNORECASE) if spellings else None

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {self._text(str(key)): self._field(str(key), value, 0) for key, value in event.items()}

    def _field(self, key: str, value: Any, depth: int) -> Any:
        if _SECRET_KEY.search(key) and value is not None:
            return REDACTED
        return self._plain(value, depth)

    def _plain(self, value: Any, depth: int) -> Any:
        if value is None or type(value) in (bool, float):
            return value
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if depth < _DEPTH_MAX and isinstance(value, Mapping | msgspec.Struct):
            fields = value if isinstance(value, Mapping) else msgspec.structs.asdict(value)
            return {self._text(str(key)): self._field(str(key), item, depth + 1) for key, item in fields.items()}
        if depth < _DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return [self._plain(item, depth + 1) for item in items]
        return self._text(value if isinstance(value, str) else repr(value))

    def _integer(self, value: int) -> int | str:
        # A key may be held as a number; its digits are as good as its text.
        if self._values is not None and self._values.search(f"{value} {value:x}"):
            return REDACTED
        return value if abs(value) <= _INTEGER_MAX else str(value)

    def _text(self, text: str) -> str:
        whole = text.encode(errors="backslashreplace").decode()  # half a surrogate pair has no place in JSON
        return whole if self._values is None else self._values.sub(REDACTED, whole)


def _spellings(secret: str) -> list[str]:
    # The forms in which libraries and exceptions repeat a secret. Matching ignores case, for hex and for percent codes.
    raw = secret.encode()
    bare = secret.removeprefix("0x")
    forms = [
        secret,
        bare,
        repr(secret)[1:-1],
        raw.hex(),
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
    ]
    encoded = [raw] if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", bare) else [raw, bytes.fromhex(bare)]
    forms += [encode(item).decode().rstrip("=") for item in encoded for encode in _BASE64]
    if len(encoded) == 2:
        forms.append(str(int(bare, 16)))
    return [form for form in forms if form]


_BASE64: Final = (base64.b64encode, base64.urlsafe_b64encode)


def _open_private(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigError(f"{path}: expected a log file to append to, found: {error.strerror}") from error
    try:
        os.fchmod(descriptor, 0o600)  # an older file may have been made with another mask
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(f"{path}: expected a log file of ours, found: {error.strerror}; move it away") from error
    return descriptor


def _add_task(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if trio.lowlevel.in_trio_task():
        event["task"] = trio.lowlevel.current_task().name
        event["trio_s"] = round(trio.current_time(), 6)
    return event


def _add_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    raised = event.pop("exc_info", None)
    if isinstance(raised, tuple):
        raised = raised[1]
    elif raised is True:
        raised = sys.exc_info()[1]
    if isinstance(raised, BaseException):
        event["error"] = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(raised))
        event["exception"] = "".join(traceback.format_exception(raised))
    return event


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def _as_argument(_logger: WrappedLogger, _method: str, event: EventDict) -> tuple[tuple[EventDict], dict[str, Any]]:
    return (event,), {}


def _drop(_logger: WrappedLogger, _method: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


def _short(event: Mapping[str, Any]) -> str:
    # 12:34:56 warning  feed.stale token_id=...: what an operator acts on; tasks and tracebacks are in the file.
    hidden = ("at", "level", "event", "task", "trio_s", "exception")
    fields = " ".join(f"{key}={value}" for key, value in event.items() if key not in hidden)
    line = f"{event['at'][11:19]} {event['level']:<8} {event['event']} {fields}"
    return text_clean(line.rstrip(), _LINE_LENGTH_MAX)
