"""How patient the market feed is."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tbot.core.backoff import Backoff

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patience of the market feed; all in seconds unless named otherwise.

    Attributes:
        connect_s: Longest way to a subscribed connection.
        link_s: No sign of life, not even a pong, for this long ends the connection (they come every 10 s).
        quiet_s: A token without data for this long is compared with the book read by request.
        traffic_gaps: A connection that was silent for this many of its usual gaps between data, and at least
            `traffic_s`, has its tokens compared at once: busy connections are suspected sooner than quiet ones.
        traffic_s: Shortest silence of a connection that may be suspected.
        canary_s: Between two such looks, and between two attempts to heal one book.
        rotate_s: Between two looks at a token whose data flows: data may come late, or in part.
        confirm_s: From a look that differs to the one that confirms it.
        canary_tokens_max: Most tokens in one look; the longest unseen come first.
        books_s: Longest wait for books read by request.
        truth_s: A token without data or an equal look for this long is stale: nobody can tell what is true.
        heal_s: A doubtful book gets this long to heal by itself before it is read by request.
        resubscribe_s: A frozen token that was subscribed anew has this long to show its book, else the connection is
            made anew; at once when it had frozen within the minute before.
        is_verified: Whether every increment is held against the book's hash, best prices and mirror told.
        hash_gap_s: Least time between two hashes of one token's book while they agree: a hash costs ten updates.
        terms_s: Between two readings of the terms of one market: fee, smallest order, whether it takes orders.
        poll_s: Between reads by request while disconnected.
        is_rest_usable: Whether books read by request may be acted on while disconnected. They are seconds old.
        bad_frames_max: More bad frames than this within a minute end the connection; those that say which tokens they
            are of do not count, and only make these stale.
        shard_tokens_max: Most tokens on one connection; both tokens of a market share one. The exchange may allow less.
        backoff: Pauses between attempts to connect, from the second on.
    """

    connect_s: Seconds = 10.0
    link_s: Seconds = 25.0
    quiet_s: Seconds = 3.0
    traffic_gaps: Annotated[float, msgspec.Meta(ge=2)] = 10.0
    traffic_s: Seconds = 1.0
    canary_s: Seconds = 2.0
    rotate_s: Seconds = 15.0
    confirm_s: Seconds = 1.0
    canary_tokens_max: Annotated[int, msgspec.Meta(ge=1)] = 100
    books_s: Seconds = 2.0
    truth_s: Seconds = 10.0
    heal_s: Seconds = 0.5
    resubscribe_s: Seconds = 2.0
    is_verified: bool = True
    hash_gap_s: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    terms_s: Seconds = 30.0
    poll_s: Seconds = 1.0
    is_rest_usable: bool = False
    bad_frames_max: Annotated[int, msgspec.Meta(ge=0)] = 10
    shard_tokens_max: Annotated[int, msgspec.Meta(ge=2)] = 200
    backoff: Backoff = Backoff(0.25, 30.0)
