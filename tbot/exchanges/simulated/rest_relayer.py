"""The relayer's one question that trading asks: does this wallet exist?

It sends no transactions: what a chain would do here is done by `POST /control/...`.
"""

from __future__ import annotations

from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Routes, json_response
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_in import SignatureType

RELAYER_PATH = "/relayer"
"""Where the relayer lies on the server."""

_KINDS = {
    "PROXY": (SignatureType.POLY_PROXY,),
    "SAFE": (SignatureType.POLY_GNOSIS_SAFE,),
    "WALLET": (SignatureType.POLY_1271,),
    "": (SignatureType.POLY_PROXY, SignatureType.POLY_GNOSIS_SAFE, SignatureType.POLY_1271),
}


class RelayerRoutes:
    """Tells which wallets exist: those of everybody who has an API key, since that is whom the exchange knows."""

    def __init__(self, state: ServerState) -> None:
        """Ask this server's key ring."""
        self._keys = state.keys

    def routes(self) -> Routes:
        """Give the routing table."""
        return {("GET", f"{RELAYER_PATH}/deployed"): self._deployed}

    async def _deployed(self, request: Request) -> Reply:
        kinds = _KINDS.get(request.query.get("type", ""))
        if kinds is None:
            raise HttpRefusal("invalid type")
        address = request.query.get("address", "").lower()
        if not address:
            raise HttpRefusal("invalid address")
        wallets = (self._keys.wallet_of(owner, kind).lower() for owner in self._keys.owners() for kind in kinds)
        return json_response({"deployed": address in wallets})
