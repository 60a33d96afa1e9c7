"""`tbot live` killed again and again while the exchange stands, and misbehaves: afterwards both tell one story.

Unlike in `tests/faults` the exchange outlives the bot here: orders rest, trade and land while nobody watches.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tbot.core.messages import ExchangeReport, Fill, Prepared
from tbot.exchanges.polymarket.auth import RequestSigner, l1_headers
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.simulation.world import all_records
from tbot.store.journal import Store
from tbot.tasks.coordinator import decode_entry
from tests.commands.test_live import KEY, WALLET, command, environ, written
from tests.commands.test_live import run as run_to_its_end
from tests.commands.test_paper import ROOT, local_exchange

LIVES = 5
# Of the exchange's settings; takers come ten times as often as usual: something has to trade in these few seconds.
BAD_DAY = {
    "regimes": '["moderate"]',
    "noise_per_s": "2.0",
    "late_s": "3",
    "submit_lost_after": "0.05",
    "submit_lost_before": "0.05",
    "submit_late": "0.05",
    "submit_http_5xx": "0.05",
    "batch_partial": "0.05",
    "cancel_lost_before": "0.05",
    "cancel_lost_after": "0.05",
    "settlement_fail": "0.05",
    "settlement_retry": "0.05",
    "cuts_per_hour": "60",
}


class Witness:
    """Reads the wallet's orders and trades from the exchange itself, without the bot."""

    def __init__(self, url: str) -> None:
        """Derive the API key that the bot's first start made."""
        self._http = httpx2.Client(base_url=url, trust_env=False)
        key = SigningKey.from_hex(KEY)
        told = self._http.get("/auth/derive-api-key", headers=l1_headers(key, chain_id=137, timestamp_s=_now_s()))
        names = told.raise_for_status().json()
        issued = ApiCredentials(api_key=names["apiKey"], secret=names["secret"], passphrase=names["passphrase"])
        self._signer = RequestSigner(key.address, issued)

    def close(self) -> None:
        self._http.close()

    def open_orders(self) -> list[str]:
        return [order["id"] for order in self._pages("/data/orders")]

    def sizes(self) -> Counter[tuple[str, str]]:
        """Sum up what each of the wallet's orders traded in each trade, micro-shares, failed trades included."""
        found: Counter[tuple[str, str]] = Counter()
        for trade in self._pages("/data/trades"):
            if trade["trader_side"] == "TAKER":
                found[trade["id"], trade["taker_order_id"]] += _micro(trade["size"])
            for leg in trade["maker_orders"]:
                if leg["maker_address"].lower() == WALLET.lower() and leg["order_id"] != trade["taker_order_id"]:
                    found[trade["id"], leg["order_id"]] += _micro(leg["matched_amount"])
        return found

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        cursor = "MA=="
        while cursor != "LTE=":
            headers = self._signer.headers("GET", path, b"", timestamp_s=_now_s())
            page = self._http.get(path, params={"next_cursor": cursor}, headers=headers).raise_for_status().json()
            yield from page["data"]
            cursor = page["next_cursor"]


def settings_of_a_bad_day(folder: Path) -> Path:
    text = (ROOT / "conf/exchange.toml").read_text()
    for name, value in BAD_DAY.items():
        text, found = re.subn(rf"^#?{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1, name
    path = folder / "exchange.toml"
    path.write_text(text)
    return path


def live_and_be_killed(path: Path, log: Path, rng: random.Random) -> None:
    """Start a life and kill it some moments after its first order."""
    seen = log.stat().st_size if log.exists() else 0
    with subprocess.Popen(command(path, WALLET[-6:]), cwd=ROOT, stdout=subprocess.DEVNULL, env=environ()) as process:
        deadline = time.perf_counter() + 30
        while not (log.exists() and b"order.submit" in log.read_bytes()[seen:]):
            assert time.perf_counter() < deadline, "no order within 30 s"
            assert process.poll() is None, "it ended by itself"
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 3))
        process.kill()


def journaled(state: Path, rest_url: str) -> tuple[set[str], dict[tuple[str, str], int]]:
    """Return every order prepared, and the size of every fill by trade and order."""
    orders: set[str] = set()
    fills: dict[tuple[str, str], int] = {}
    with closing(Store.open(state, f"wallet {WALLET.lower()} on {rest_url}")) as store:
        for record in all_records(store):
            entry = decode_entry(record.payload)
            if isinstance(entry, Prepared):
                orders.add(entry.exchange_order_id)
            for fill in (
                (entry,) if isinstance(entry, Fill) else entry.fills if isinstance(entry, ExchangeReport) else ()
            ):
                fills[fill.trade_id, fill.exchange_order_id] = fill.size
    return orders, fills


def trade_and_settle(announced: dict[str, Any], folder: Path) -> Counter[tuple[str, str]]:
    """Live, be killed, live in peace, and learn what the end left open; returns what traded, as the exchange knows."""
    rng = random.Random(11)
    with httpx2.Client(base_url=announced["rest_url"], trust_env=False) as control:
        control.post("/control/deposit", json={"account": WALLET, "cash": "500"}).raise_for_status()
        path = written(folder, announced)
        for _ in range(LIVES):
            live_and_be_killed(path, folder / "state/live.log.jsonl", rng)
        done = run_to_its_end(path, WALLET[-6:], "--duration", "10s")
        assert done.returncode == 0, done.stderr
        with closing(Witness(announced["rest_url"])) as witness:
            deadline = time.perf_counter() + 30  # one on its way may have landed since; the dead-man switch ends it
            while witness.open_orders():
                assert time.perf_counter() < deadline, "orders were left resting"
                time.sleep(0.5)
            # What traded after the end is learnt by the next start, which sends no order of its own here.
            control.post("/control/mode", json={"mode": "cancel_only"}).raise_for_status()
            again = run_to_its_end(path, WALLET[-6:], "--duration", "5s")
            assert again.returncode == 0, again.stderr
            return witness.sizes()


@pytest.mark.slow
def test_bot_and_exchange_tell_one_story_after_any_kills(tmp_path: Path) -> None:
    with local_exchange("--config", str(settings_of_a_bad_day(tmp_path))) as announced:
        truth = trade_and_settle(announced, tmp_path)
    orders, fills = journaled(tmp_path / "state", announced["rest_url"])
    assert truth, "nothing traded: the test shows nothing"
    assert {order_id for _, order_id in truth} <= orders
    assert fills == dict(truth)


def _micro(text: str) -> int:
    return round(float(text) * 1_000_000)


def _now_s() -> int:
    return int(time.time())
