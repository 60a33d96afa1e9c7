"""`tbot markets`: markets found."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    markets = commands.add_parser(
        "markets",
        help="find markets to trade",
        description="Find markets that are ready to trade, and on which terms. Public data only; no key is needed.",
    )
    deeds = markets.add_subparsers(dest="deed", required=True, metavar="DEED")
    finding = deeds.add_parser("search", help="by words, event, tag, liquidity, end or rewards")
    where = finding.add_mutually_exclusive_group()
    where.add_argument("text", nargs="*", default=[], metavar="TEXT", help="words to look for")
    where.add_argument("--event", type=kinds.name, default=None, metavar="SLUG", help="only markets of this event")
    where.add_argument(
        "--tag", type=kinds.name, default=None, metavar="SLUG", help="only markets with this tag, or its number"
    )
    finding.add_argument(
        "--liquidity-min", type=kinds.dollars, default=0, metavar="USD", help="at least so many dollars"
    )
    finding.add_argument("--ends-before", type=kinds.moment, default=None, metavar="DATE", help="such as 2026-12-31")
    finding.add_argument("--rewards", action="store_true", help="only markets that pay for resting orders")
    finding.add_argument("--limit", type=kinds.count, default=20, metavar="N", help="most markets shown (default 20)")
    finding.set_defaults(run=search)
    showing = deeds.add_parser("show", help="one market, with its neg-risk group")
    showing.add_argument("name", type=kinds.name, metavar="SLUG|CONDITION_ID")
    showing.set_defaults(run=show)
    for each in (finding, showing):
        kinds.add_config(each, "conf/live.toml", "for addresses")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def search(arguments: argparse.Namespace) -> int:
    """Search, and return the exit code."""
    from tbot.commands.markets import SearchOptions, search_markets
    from tbot.exchanges.polymarket.gamma import Scope
    from tbot.exchanges.polymarket.listings import Wanted

    wanted = Wanted(
        liquidity_min=arguments.liquidity_min, ends_before=arguments.ends_before, is_rewarded=arguments.rewards
    )
    return search_markets(
        SearchOptions(
            config=arguments.config,
            is_json=arguments.json,
            scope=Scope(text=" ".join(arguments.text), event=arguments.event or "", tag=arguments.tag or ""),
            wanted=wanted,
            limit=arguments.limit,
        )
    )


def show(arguments: argparse.Namespace) -> int:
    """Show one, and return the exit code."""
    from tbot.commands.markets import ShowOptions, show_market

    return show_market(ShowOptions(config=arguments.config, is_json=arguments.json, name=arguments.name))
