"""Whether the place a caller is in may trade, as production tells it: an answer that is set, since all is one place.

Where the answer is "blocked" orders are refused with 403, as users met it (Polymarket/py-clob-client#101, #152);
reading and cancelling go on.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Routes, json_response

GEOBLOCK_PATH = "/api/geoblock"
"""Where the answer lies on the server; in production it is on the host of the web page."""

TEXT_REGION = (
    "Trading restricted in your region, please refer to available regions - "
    "https://docs.polymarket.com/developers/CLOB/geoblock"
)

Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")]
Region = Annotated[str, msgspec.Meta(max_length=8)]


class PlaceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where every caller is said to be; the body of `POST /control/place` as well.

    Attributes:
        blocked: Whether nobody may trade from there.
        country: Two letters; ZZ = nowhere.
        region: Of the country, such as a state's letters.
        ip: The caller's address as told.
    """

    blocked: bool = False
    country: Country = "ZZ"
    region: Region = ""
    ip: Annotated[str, msgspec.Meta(max_length=45)] = "127.0.0.1"


class Place:
    """The answer as it stands; owned by one server."""

    def __init__(self, settings: PlaceSettings) -> None:
        """Begin where the settings say."""
        self.told = settings

    def check_orders(self) -> None:
        """Check that orders are taken from here.

        Raises:
            HttpRefusal: 403.
        """
        if self.told.blocked:
            raise HttpRefusal(TEXT_REGION, status=403)


class GeoblockRoutes:
    """The one question."""

    def __init__(self, place: Place) -> None:
        """Answer for this place."""
        self._place = place

    def routes(self) -> Routes:
        """Give the routing table."""
        return {("GET", GEOBLOCK_PATH): self._geoblock}

    async def _geoblock(self, _: Request) -> Reply:
        told = self._place.told
        return json_response({"blocked": told.blocked, "ip": told.ip, "country": told.country, "region": told.region})
