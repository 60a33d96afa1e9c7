"""The state folder: private to one user, used by one bot at a time, refused untouched when it cannot be trusted.

The journal holds signed orders: whoever reads them knows our next moves, whoever writes them decides what we believe.
Hence 0700 for the folder, 0600 for the files, whatever the umask says.
"""

from __future__ import annotations

import fcntl
import os
import stat
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from tbot.errors import ConfigError, StateCorrupt

FOLDER_MODE = 0o700
FILE_MODE = 0o600
OTHERS = stat.S_IRWXG | stat.S_IRWXO
PROBES = 5  # the median of five hides one slow outlier and still takes under 0.1 s on a slow disk
PROBE_BYTES = 4096


class StateFolder:
    """An open and locked state folder.

    The lock is taken on the folder itself: no lock file that could be stale or deleted, and it ends with the process
    however the process ends.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> StateFolder:
        """Check, create when missing, and lock a state folder.

        Raises:
            StateCorrupt: Not a folder, not ours, not writable, or open to others.
            ConfigError: Another process holds it.
        """
        found = _stat(path)
        if found is None and not path.is_symlink():
            found = _create(path)
        _refuse(folder_complaint(path, found, os.geteuid(), is_writable=os.access(path, os.W_OK)))
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConfigError(
                f"{path} is in use by another tbot: stop that one, or give this one its own state folder."
            ) from error
        return cls(path, descriptor)

    def check_files(self, names: Sequence[str]) -> None:
        """Refuse files of ours that others could read or write; absent ones are fine.

        Raises:
            StateCorrupt: A file is not a regular file, not ours, or open to others.
        """
        for name in names:
            file = self.path / name
            if (found := _stat(file)) is not None:
                _refuse(file_complaint(file, found, os.geteuid()))

    def sync(self) -> None:
        """Make names in the folder durable: a renamed file may otherwise be gone after a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def folder_complaint(path: Path, found: os.stat_result | None, uid: int, *, is_writable: bool) -> str:
    """Say in one sentence why a folder cannot hold our state, or "".

    Args:
        path: For the message.
        found: What is there; None = a dangling link.
        uid: Who we are.
        is_writable: Whether we may write there; the file system may be read-only.
    """
    if found is None or not stat.S_ISDIR(found.st_mode):
        return f"{path} is not a folder: name another state folder, or move it aside."
    if complaint := _access_complaint(path, found, uid, "700"):
        return complaint
    if not is_writable or found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        return f"{path} is not writable: run `chmod 700 {quote(str(path))}`, or name a state folder on a writable disk."
    return ""


def file_complaint(path: Path, found: os.stat_result, uid: int) -> str:
    """Say in one sentence why a file in the folder cannot be trusted, or ""."""
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file: move it aside, or name another state folder."
    if complaint := _access_complaint(path, found, uid, "600"):
        return complaint
    wanted = stat.S_IRUSR | stat.S_IWUSR
    return "" if found.st_mode & wanted == wanted else f"{path} is not writable: run `chmod 600 {quote(str(path))}`."


def fsync_latency_s(folder: Path) -> float:
    """Measure how long this disk takes to make 4 KiB durable, in seconds: the median of five. For display only."""
    latencies = []
    with tempfile.TemporaryFile(dir=folder) as probe:
        for _ in range(PROBES):
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            started = time.perf_counter()
            os.fsync(probe.fileno())
            latencies.append(time.perf_counter() - started)
    return statistics.median(latencies)


def create_private(path: Path) -> None:
    """Create an empty file that only we can read, whatever the umask.

    Raises:
        FileExistsError: It is already there.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateCorrupt(f"{path} cannot be reached ({error.strerror}): name another state folder.") from error


def _create(path: Path) -> os.stat_result:
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True)
        path.chmod(FOLDER_MODE)
        return path.stat()
    except OSError as error:
        raise StateCorrupt(
            f"{path} cannot be created ({error.strerror}): name a state folder where you may write."
        ) from error


def _access_complaint(path: Path, found: os.stat_result, uid: int, mode: str) -> str:
    if found.st_uid != uid:
        return f"{path} belongs to user {found.st_uid}, not to you ({uid}): run tbot as its owner, or name another."
    if found.st_mode & OTHERS:
        return f"{path} can be read or written by other users: run `chmod {mode} {quote(str(path))}`."
    return ""


def _refuse(complaint: str) -> None:
    if complaint:
        raise StateCorrupt(complaint)
