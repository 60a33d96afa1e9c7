"""The TLS settings of every connection to the exchange."""

from __future__ import annotations

import ssl


def tls_context() -> ssl.SSLContext:
    """Return a context that verifies certificate and host name against the system's authorities.

    Made by hand, because `ssl.create_default_context` obeys SSLKEYLOGFILE: whoever sets that in our environment would
    get a file with which all our traffic, credentials included, can be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which demands a certificate and checks the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    return context
