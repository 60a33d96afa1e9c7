"""A secret prints as stars, travels nowhere, and is taken only from places that others cannot read."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import msgspec
import pytest

from tbot.errors import ConfigError
from tbot.secret import Secret, secret_from_environment

VALUE = "correct horse battery"


def test_every_way_of_printing_shows_stars() -> None:
    secret = Secret(VALUE)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>30}",
        f"{secret:x}",
        str([secret]),
    ]
    assert all(VALUE not in text and "***" in text for text in shown)


def test_it_refuses_to_be_pickled_copied_or_encoded() -> None:
    secret = Secret(VALUE)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError):
            leak(secret)
    assert not hasattr(secret, "__dict__")


def test_it_equals_only_the_same_secret_and_never_its_text() -> None:
    assert Secret(VALUE) == Secret(VALUE)
    assert Secret(VALUE) != Secret(VALUE + "x")
    assert Secret(VALUE) != VALUE
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(VALUE))


def test_it_is_taken_from_the_variable() -> None:
    assert secret_from_environment("KEY", {"KEY": VALUE}).reveal() == VALUE


def test_it_is_taken_from_a_private_file_without_the_last_line_end(tmp_path: Path) -> None:
    path = private_file(tmp_path, VALUE + "\n")
    assert secret_from_environment("KEY", {"KEY_FILE": str(path)}).reveal() == VALUE


def private_file(folder: Path, text: str) -> Path:
    path = folder / "key"
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o610])
def test_a_file_open_to_others_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = private_file(tmp_path, VALUE)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"expected mode 0600, found {mode:04o}; run: chmod 600 {path}"):
        secret_from_environment("KEY", {"KEY_FILE": str(path)})


def test_a_file_of_another_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = private_file(tmp_path, VALUE)
    ours = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: ours + 1)
    with pytest.raises(ConfigError, match=f"expected a file of ours, found owner {ours}"):
        secret_from_environment("KEY", {"KEY_FILE": str(path)})


def test_each_other_fault_is_one_sentence_that_never_shows_the_secret(tmp_path: Path) -> None:
    binary = private_file(tmp_path, "")
    binary.write_bytes(b"\xff" * 20)
    cases = {
        "missing secret, expected KEY or KEY_FILE": {},
        "found KEY and KEY_FILE both set": {"KEY": VALUE, "KEY_FILE": "/x"},
        "expected a secret of 8 characters or more, found 3": {"KEY": "abc"},
        "found: No such file": {"KEY_FILE": str(tmp_path / "none")},
        "found: Is a directory": {"KEY_FILE": str(tmp_path)},
        "expected a regular file": {"KEY_FILE": "/dev/null"},
        "expected UTF-8 text": {"KEY_FILE": str(binary)},
    }
    for message, environ in cases.items():
        with pytest.raises(ConfigError, match=message) as caught:
            secret_from_environment("KEY", environ)
        assert VALUE not in str(caught.value)
