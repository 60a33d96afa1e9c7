"""What the numbers were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("tbot", "coincurve", "msgspec", "py-clob-client-v2", "tiny-keccak", "trio")


def describe() -> list[str]:
    """Name the machine, the Python and the packages that matter, a line each."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    build = f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"
    return [
        f"machine   {_processor()}, {os.cpu_count()} CPUs, {_load()}, {platform.system()} {platform.release()}",
        f"python    {build}",
        f"versions  {versions}",
    ]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _load() -> str:
    # A busy machine is the commonest reason for a strange number.
    return f"load {os.getloadavg()[0]:.1f}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
