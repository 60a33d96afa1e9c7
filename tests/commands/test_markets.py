"""`tbot markets`: what it prints, what it refuses, and all of it against `tbot exchange` as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tbot.cli import main
from tbot.commands.market_pages import Shown, closing, group_lines, page, table, told
from tbot.commands.markets import SearchOptions, reading
from tbot.core.market import MarketId, TokenId
from tbot.exchanges.polymarket.gamma import Scope
from tbot.exchanges.polymarket.listings import Wanted
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.terms import ATTEMPTS, Terms
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import routed
from tests.exchanges.polymarket.test_gamma import ROW, TERMS, numbered
from tests.exchanges.polymarket.test_listings import RULE, listed

ROOT = Path(__file__).parents[2]
LIVE = ROOT / "conf/live.toml"
SETTINGS = PolymarketSettings(rest_url="http://exchange.test", gamma_url="http://gamma.test")
EVIL = "\x1b[2J\x1b]0;owned\x07\u202e"
TOLD = Terms(
    tokens=(TokenId("11"), TokenId("22")),
    outcomes=("Yes", "No"),
    protocol="v1",
    tick=Decimal("0.010"),
    size_min=Decimal(5),
    fee_rate=Decimal("0.05"),
    is_accepting_orders=True,
    rewards_size_min=Decimal(100),
    rewards_spread_max=Decimal("3.5"),
)


def test_a_page_names_everything_one_needs_to_trade() -> None:
    text = page(Shown(listing=listed(question="Rain?", **RULE), terms=TOLD))
    lines = {line[2:16].strip(): line[16:].strip() for line in text.splitlines()[1:]}
    assert text.startswith("Rain?\n")
    assert lines == {
        "slug": "rain",
        "condition id": "0x" + "ab" * 32,
        "token Yes": "11",
        "token No": "22",
        "version": "v1",
        "tick": "0.01",
        "minimum size": "5 shares",
        "fee rate": "0.05",
        "rewards": "no daily sum told, from 100 shares within 3.5 cents of the middle",
        "liquidity": "$1,235",
        "ends": "2026-12-01 00:00 UTC",
    }


def test_text_from_outside_cannot_move_the_terminal() -> None:
    listing = listed(question=f"{EVIL}?", slug=EVIL, group_item_title=EVIL, outcomes=json.dumps([EVIL, "No"]))
    for terms in (None, TOLD):
        text = page(Shown(listing=listing, terms=terms, remark=EVIL)) + group_lines([listing])
        text += table([Shown(listing=listing, terms=terms, remark=EVIL)])
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_search_is_a_table_of_a_line_a_market() -> None:
    long = listed(question="Will it rain in Springfield on the first of December?", **RULE)
    without = Shown(listing=listed(question="Snow?"), terms=None, remark="not yet on the CLOB")
    head, first, second, remark, end = table([Shown(listing=long, terms=TOLD), without]).split("\n", 4)
    assert head.split() == ["question", "tick", "min", "fee", "liquidity", "reward/d", "ends", "slug"]
    for column, cell in (("tick", " 0.01"), ("liquidity", "$1,235")):
        assert first[: head.index(column) + len(column)].endswith(cell)
    assert (first.split()[-1], second.split()[-1]) == (long.slug, without.listing.slug)
    assert head.index("slug") == first.rindex(long.slug) == second.rindex(without.listing.slug)
    assert (remark, end) == (f"{without.listing.slug}: not yet on the CLOB", "\n")
    assert table([]) == ""


def test_a_program_gets_both_tokens_though_their_labels_are_equal() -> None:
    shown = Shown(listing=listed(outcomes='["", ""]'), terms=None, remark="not yet on the CLOB")
    assert told(shown)["tokens"] == [{"outcome": "", "token_id": "11"}, {"outcome": "", "token_id": "22"}]
    assert told(shown)["terms"] is None


def test_the_last_line_says_what_is_missing() -> None:
    assert closing(0, 0, has_more=False) == "no market that is ready to trade was found\n"
    assert "raise --limit" in closing(5, 0, has_more=True)
    assert "3 rows" in closing(5, 3, has_more=False)


async def test_a_market_the_clob_does_not_have_yet_is_said_so_beside_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked: list[str] = []
    there = numbered(1)["conditionId"]

    def not_yet(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(404, json={"error": "market not found"})

    rows = [numbered(number, liquidityNum=10 - number) for number in (1, 2, 3)]
    routes = {
        "/markets/keyset": {"markets": rows},
        f"/clob-markets/{there}": TERMS,
        f"/clob-markets/{rows[1]['conditionId']}": not_yet,
        f"/clob-markets/{rows[2]['conditionId']}": lambda _: httpx2.Response(500, json={"error": "oops"}),
    }
    options = SearchOptions(config=LIVE, is_json=False, scope=Scope(), wanted=Wanted(), limit=3)
    async with reading(SETTINGS, now_ns, httpx2.MockTransport(routed(routes))) as markets:
        shown, has_more = await markets.search(options)
    assert [each.listing.slug for each in shown] == ["m1", "m2", "m3"]
    assert [each.remark[:19] for each in shown] == ["", "not yet on the CLOB", "terms not told: 500"]
    assert (len(asked), has_more) == (ATTEMPTS, False)


async def test_a_limit_asks_for_no_more_terms_than_it_shows(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        is_list = request.url.path == "/markets/keyset"
        rows = {"markets": [numbered(number) for number in range(50)]}
        return httpx2.Response(200, json=rows if is_list else TERMS)

    options = SearchOptions(config=LIVE, is_json=False, scope=Scope(), wanted=Wanted(), limit=2)
    async with reading(SETTINGS, now_ns, httpx2.MockTransport(answer)) as markets:
        shown, has_more = await markets.search(options)
    assert (len(shown), has_more, len(asked)) == (2, True, 3)


async def test_a_closed_market_is_asked_for_once(autojump_clock: trio.testing.MockClock) -> None:
    routes = {"/markets/slug/rain": ROW | {"closed": True}}
    async with reading(SETTINGS, now_ns, httpx2.MockTransport(routed(routes))) as markets:
        began = trio.current_time()
        shown, group = await markets.show("rain")
        assert (shown.terms, shown.remark, group) == (None, "not on the CLOB any more", ())
        assert shown.listing.market_id == MarketId(ROW["conditionId"])
        assert trio.current_time() == began


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--limit", "0"],
        ["search", "--limit", "101"],
        ["search", "--liquidity-min", "-5"],
        ["search", "--liquidity-min", "nan"],
        ["search", "--ends-before", "soon"],
        ["search", "--event", "../../etc"],
        ["search", "rain", "--tag", "weather"],
        ["show", "a b"],
        ["show"],
        [],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["markets", *arguments])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_stranger_as_catalogue_is_never_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "live.toml"
    config.write_text(LIVE.read_text().replace("slugs = []", 'gamma_url = "https://gamma.example"'))
    assert main(["markets", "search", "--config", str(config)]) == 2
    assert "gamma_url: 'gamma.example'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_local_exchange_is_searched_and_shown(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tbot"]
    serve = [*command, "exchange", "--json", "--port", "0"]
    with subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, text=True) as exchange:
        assert exchange.stdout is not None
        announced: dict[str, Any] = json.loads(exchange.stdout.readline())
        urls = "".join(f'{name} = "{announced[name]}"\n' for name in ("rest_url", "ws_market_url", "gamma_url"))
        urls += f'ws_user_url = "{announced["ws_user_url"]}"\n'
        config = tmp_path / "live.toml"
        config.write_text(LIVE.read_text().replace("slugs = []", urls))

        def ask(*arguments: str) -> dict[str, Any]:
            asked = [*command, "markets", *arguments, "--config", str(config), "--json"]
            done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer

        found = ask("search")["markets"]
        by_words = ask("search", "mayor")["markets"]
        by_event = ask("search", "--event", by_words[0]["event_slug"])["markets"]
        alone = ask("show", by_words[0]["condition_id"])
        exchange.send_signal(signal.SIGTERM)
    assert len(found) == 7
    assert all(len(each["tokens"]) == 2 and each["terms"]["tick"] for each in found)
    assert {each["protocol"] for each in found} == {"v1", "v2"}
    slugs = {each["slug"] for each in by_words}
    assert slugs == {each["slug"] for each in by_event}
    assert {alone["slug"], *(each["slug"] for each in alone["group"])} == slugs
