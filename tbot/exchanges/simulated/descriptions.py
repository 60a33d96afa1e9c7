"""How markets and events are described to people and to the programs that choose among them.

Nothing here changes how a market trades: rules are `MarketRules`, these are the words around them. Whatever the
settings leave out is derived from the slug, so that a market of three lines is still found, listed and shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.operations import MarketRules

OPEN_DAYS = 30
"""How long a market is open whose settings do not say, days; only shown, never acted upon."""

DEFAULT_CATEGORY = "general"


class RewardTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an order must be to count for liquidity rewards. Nothing is ever paid here.

    Attributes:
        size_min: Smallest order that counts.
        spread_max: Farthest from the midpoint, dollars; shown to clients in cents.
        age_s_min: How long it must have rested, seconds.
        daily_rate: What the market would share out a day.
    """

    size_min: Annotated[Size, Meta(gt=0)] = Size(50 * MICRO)
    spread_max: Annotated[Price, Meta(gt=0, le=MICRO)] = Price(35_000)
    age_s_min: Annotated[int, Meta(ge=0)] = 4
    daily_rate: Annotated[Notional, Meta(ge=0)] = Notional(10 * MICRO)


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market or one event in words.

    Attributes:
        slug: Of the market or of the event.
        title: Question of a market, title of an event; "" = made from the slug.
        text: By which rules it is decided.
        category: Word of the fee type; "" = that of the event, then `DEFAULT_CATEGORY`.
        tags: Slugs of its tags; none = those of the event, then the category.
        ends: ISO 8601 moment at which the question is decided; "" = that of the event, then `OPEN_DAYS` after opening.
        group_title: What tells a market from the others of its event; "" = what its slug adds to the event's.
        icon: Address of a picture; "" = that of the event.
        rewards: What counts for liquidity rewards; None = nothing does.
    """

    slug: Annotated[str, Meta(min_length=1, max_length=200)]
    title: str = ""
    text: str = ""
    category: str = ""
    tags: tuple[str, ...] = ()
    ends: str = ""
    group_title: str = ""
    icon: str = ""
    rewards: RewardTerms | None = None

    def __post_init__(self) -> None:
        """Refuse an end that is no moment."""
        if self.ends:
            moment_of(self.ends)


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A described market or event with every gap filled.

    Attributes:
        end: When the question is decided.
        rewards: Of a market; an event has none of its own.
    """

    slug: str
    title: str
    text: str
    category: str
    tags: tuple[str, ...]
    end: datetime
    group_title: str = ""
    icon: str = ""
    rewards: RewardTerms | None = None


class Descriptions:
    """All descriptions of an exchange, by slug."""

    def __init__(self, described: Iterable[Description], *, opened_ns: Nanos) -> None:
        """Remember them.

        Args:
            described: Those of the settings, each slug once.
            opened_ns: When the exchange began; ends not given count from there.
        """
        self._by_slug = {description.slug: description for description in described}
        day = moment_at(opened_ns).replace(hour=0, minute=0, second=0, microsecond=0)
        self._end = day + timedelta(days=OPEN_DAYS)

    def add(self, description: Description) -> None:
        """Remember one more, of a market listed later."""
        self._by_slug[description.slug] = description

    def event(self, slug: str) -> Subject:
        """Describe an event; one that consists of a single market is described like that market."""
        given = self._by_slug.get(slug) or Description(slug=slug)
        category = given.category or DEFAULT_CATEGORY
        return Subject(
            slug=slug,
            title=given.title or title_of(slug),
            text=given.text or _rules_of(given.title or title_of(slug)),
            category=category,
            tags=given.tags or (category,),
            end=moment_of(given.ends) if given.ends else self._end,
            icon=given.icon,
        )

    def market(self, rules: MarketRules) -> Subject:
        """Describe a market; what it does not say for itself, its event says."""
        given = self._by_slug.get(rules.slug) or Description(slug=rules.slug)
        event = self.event(rules.event or rules.slug)
        title = given.title or title_of(rules.slug) + "?"
        return Subject(
            slug=rules.slug,
            title=title,
            text=given.text or _rules_of(title),
            category=given.category or event.category,
            tags=given.tags or event.tags,
            end=moment_of(given.ends) if given.ends else event.end,
            group_title=given.group_title or _group_title(rules),
            icon=given.icon or event.icon,
            rewards=given.rewards,
        )


def check_slugs(described: Iterable[Description], markets: Iterable[MarketRules]) -> None:
    """Check that every description is of something, and of one thing.

    Raises:
        ValueError: No market or event has the slug, or two descriptions have it.
    """
    known = {slug for rules in markets for slug in (rules.slug, rules.event) if slug}
    seen: set[str] = set()
    for slug in (description.slug for description in described):
        if slug not in known or slug in seen:
            found = "twice" if slug in seen else "which no market or event has"
            raise ValueError(f"expected the slug of a market or event in descriptions, once; found {slug!r} {found}")
        seen.add(slug)


def moment_of(text: str) -> datetime:
    """Read an ISO 8601 date or moment; without a zone it is UTC.

    Raises:
        ValueError: It is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected a moment such as 2026-12-31T12:00:00Z, found {text!r}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def moment_at(at_ns: Nanos) -> datetime:
    """Turn Unix nanoseconds into a moment, exact to the microsecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(
        seconds=at_ns // NANOS_PER_S, microseconds=at_ns % NANOS_PER_S // 1000
    )


def stamp(moment: datetime) -> str:
    """Spell a moment in whole seconds: "2026-10-05T22:20:54Z"."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def spaced_stamp(moment: datetime) -> str:
    """Spell a moment as some fields do, with an offset without its minutes: "2026-10-05 22:00:00+00"."""
    return moment.strftime("%Y-%m-%d %H:%M:%S+00")


def title_of(slug: str) -> str:
    """Make words of a slug: "rain-in-springfield" -> "Rain in springfield"."""
    words = re.sub(r"[-_]+", " ", slug).strip()
    return words[:1].upper() + words[1:]


def _group_title(rules: MarketRules) -> str:
    if not rules.event:
        return ""
    return title_of(rules.slug.removeprefix(rules.event).strip("-"))


def _rules_of(title: str) -> str:
    return (
        f'"{title}" A market of the local exchange: it pays in play money, and whoever runs the exchange resolves it.'
    )
