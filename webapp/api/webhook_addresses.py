"""Connections to the addresses that webhooks may go to, and to no others.

A name is resolved once, each address is checked, and the connection goes to a checked address. So a name that changes
its address between check and connection (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore

MAX_PORT = 65_535
NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))  # IPv4 behind a translator
IPV4_BITS = 0xFFFF_FFFF


class ForbiddenAddress(Exception):
    """A webhook may not go to this address; the message is a sentence."""


def check_url(url: str, *, allow_private: bool) -> None:
    """Check the address of a webhook as far as that is possible without resolving its name.

    Args:
        url: as the client sent it.
        allow_private: whether http and private addresses are allowed.

    Raises:
        ForbiddenAddress: webhooks may not go there.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ForbiddenAddress("The callback address is not a URL.") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes or not host or port == 0 or any(c.isspace() or ord(c) < 32 for c in url):
        raise ForbiddenAddress(f"The callback address must begin with {' or '.join(f'{s}://' for s in schemes)}.")
    if not url.isascii():
        raise ForbiddenAddress("The callback address must be ASCII; write a name as punycode.")
    if parts.username is not None or parts.password is not None:
        raise ForbiddenAddress("The callback address must not have a user name or a password.")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not allow_private and (host == "localhost" or host.endswith((".localhost", ".local", ".internal"))):
            raise ForbiddenAddress("The callback address must be public.") from None
        return
    if not allow_private and not is_public(address):
        raise ForbiddenAddress("The callback address must be public.")


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether an address is on the public internet, also when it carries an IPv4 address inside."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if any(address in network for network in NAT64):
            inner = ipaddress.IPv4Address(int(address) & IPV4_BITS)
        if address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def resolve(host: str, port: int, *, allow_private: bool) -> str:
    """Return an address of a name.

    Raises:
        ForbiddenAddress: the name has no address, or one of its addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ForbiddenAddress("The name of the callback address cannot be resolved.") from error
    addresses = [str(entry[4][0]) for entry in found]
    # A zone, as in fe80::1%eth0, belongs to link-local addresses, which are not public either.
    if not allow_private and not all(is_public(ipaddress.ip_address(each.partition("%")[0])) for each in addresses):
        raise ForbiddenAddress("The callback address must be public.")
    return addresses[0]


class CheckedNetwork(httpcore.NetworkBackend):
    """Connect to checked addresses only, for a limited time.

    Args:
        allow_private: whether private addresses are allowed.
        limit_s: seconds from now until every connection ends, however slowly the other side sends.
    """

    def __init__(self, *, allow_private: bool, limit_s: float) -> None:
        self._allow_private, self._end_s = allow_private, time.monotonic() + limit_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve a name, check its addresses, and connect to the first."""
        address = resolve(host, port, allow_private=self._allow_private)
        stream = httpcore.SyncBackend().connect_tcp(address, port, _left_s(self._end_s), local_address, socket_options)
        return _LimitedStream(stream, self._end_s)


class _LimitedStream(httpcore.NetworkStream):
    """A connection whose every step has only the time that is left."""

    def __init__(self, stream: httpcore.NetworkStream, end_s: float) -> None:
        self._stream, self._end_s = stream, end_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left_s(self._end_s))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left_s(self._end_s))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left_s(self._end_s))
        return _LimitedStream(stream, self._end_s)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left_s(end_s: float) -> float:
    if (left := end_s - time.monotonic()) <= 0:
        raise httpcore.ReadTimeout("The time is over.")
    return left
