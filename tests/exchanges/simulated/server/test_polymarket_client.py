"""`tbot exchange` against the official client `polymarket-client`, each a process of its own.

The client gets an empty environment, one public test key and loopback addresses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
SESSION = Path(__file__).parent / "polymarket_client_session.py"
SHARED_STEPS = [
    "keys_and_reading",
    "orders_and_every_cancel",
    "every_wallet_trades_every_kind_of_market",
    "wallets_are_indexed",
    "refusals_have_their_codes",
    "restrictions_and_limits_are_understood",
    "heartbeats_keep_orders",
    "standing_is_told",
    "approvals_are_set_up",
    "missing_approval_is_given_and_the_order_posted_again",
]
PUBLIC_TEST_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
QUICK = "[engine]\nmined_after_ns = 50000000\nconfirmed_after_ns = 100000000\n"

pytestmark = pytest.mark.slow


@pytest.fixture
def announced(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Start the exchange of conf/exchange.toml without its crowd; it must end without having met a bug."""
    config = tmp_path / "exchange.toml"
    text = (ROOT / "conf/exchange.toml").read_text()
    config.write_text(text.replace("has_traders = true", "has_traders = false").replace("[engine]\n", QUICK))
    arguments = [sys.executable, "-m", "tbot", "exchange", "--json", "--seed", "1", "--config", str(config)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as exchange:
        assert exchange.stdout is not None
        yield json.loads(exchange.stdout.readline())
        exchange.terminate()
        _, complaints = exchange.communicate(timeout=20)
    assert exchange.returncode == 0, complaints


@pytest.mark.parametrize(
    ("kind", "steps"),
    [("sync", SHARED_STEPS), ("async", [*SHARED_STEPS, "streams_tell_what_happens"])],
)
def test_polymarket_client_trades_as_in_production(announced: dict[str, Any], kind: str, steps: list[str]) -> None:
    account = announced["accounts"][0]
    assert account["private_key"] == PUBLIC_TEST_KEY
    done = subprocess.run(
        [sys.executable, str(SESSION), kind],
        input=json.dumps(announced | {"accounts": [account]}),
        env={},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, steps), done.stderr[-3000:]
