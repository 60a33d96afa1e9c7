"""Secrets: a type that cannot leak by accident, and the only two places they come from.

Secrets never stand in TOML or on a command line. They come from the environment, or from a file that nobody else can
read. Logs cut them out by value as well (`tbot.log`), because an exception of a library may carry one in its text.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from tbot.errors import ConfigError

SECRET_LENGTH_MIN: Final = 8  # Shorter text cannot be cut out of logs without cutting innocent words as well.


class Secret:
    """A text that must not leak: it prints as ***, compares in constant time, refuses to be pickled or encoded."""

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]  # a hash table would compare by plain equality first

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself, for signing and for the list of values that logs must cut out."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")


def secret_from_environment(name: str, environ: Mapping[str, str]) -> Secret:
    """Take a secret from variable `name`, or from the file that variable `name` + "_FILE" points to.

    Args:
        name: For example "TBOT_PRIVATE_KEY".
        environ: The environment; handed in, so that a test or a simulation shows another one.

    Raises:
        ConfigError: Neither or both variables are set, the secret is too short, or its file is missing, not ours, or
            open to others.
    """
    direct, pointed = environ.get(name), environ.get(f"{name}_FILE")
    if direct is not None and pointed is not None:
        raise ConfigError(f"{name}: expected one source, found {name} and {name}_FILE both set; unset one of them")
    if direct is None and pointed is None:
        raise ConfigError(
            f"{name}: missing secret, expected {name} or {name}_FILE (a file with mode 0600), found neither"
        )
    value = direct if direct is not None else _private_text(f"{name}_FILE", Path(str(pointed)))
    if len(value) < SECRET_LENGTH_MIN:
        raise ConfigError(f"{name}: expected a secret of {SECRET_LENGTH_MIN} characters or more, found {len(value)}")
    return Secret(value)


def _private_text(name: str, path: Path) -> str:
    # Mode and owner are read from the open file, not from its name: nobody can swap it in between.
    try:
        with path.open("rb") as file:
            _demand_private(name, path, os.fstat(file.fileno()))
            return file.read().decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{name}: {path}: expected a readable file, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: {path}: expected UTF-8 text, found other bytes") from error


def _demand_private(name: str, path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{name}: {path}: expected a regular file, found something else")
    if status.st_uid != os.getuid():
        raise ConfigError(f"{name}: {path}: expected a file of ours, found owner {status.st_uid}; chown it to us")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(f"{name}: {path}: expected mode 0600, found {mode:04o}; run: chmod 600 {path}")
