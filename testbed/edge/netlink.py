"""Routes and rules by netlink: no program is started while a service stands still."""

import contextlib
import errno
import os
import socket
import struct
from ipaddress import IPv4Network

NEWROUTE, DELROUTE, NEWRULE, DELRULE = 24, 25, 32, 33
REQUEST, ACK, REPLACE, CREATE, EXCLUSIVE = 0x1, 0x4, 0x100, 0x400, 0x200
TABLE_MAIN, PROTO_STATIC = 254, 4
SCOPE_LINK, SCOPE_ANY = 253, 255
UNICAST, BLACKHOLE = 1, 6
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC = 1, 4, 5, 7
FRA_IIFNAME, FRA_PRIORITY = 3, 6
FR_ACT_BLACKHOLE = 6
RULE_PRIORITY = 50


def replace_route(destination: str, device: str, source: str | None = None) -> None:
    """Lead packets for ``destination`` (address or network) out of ``device`` from now on.

    Raises
    ------
    OSError
        As the kernel answers, with destination and device in the message.
    """
    network = IPv4Network(destination)
    attributes = _attribute(RTA_DST, network.network_address.packed)
    attributes += _attribute(RTA_OIF, struct.pack("=I", _index(device)))
    if source:
        attributes += _attribute(RTA_PREFSRC, socket.inet_aton(source))
    body = _route(network, SCOPE_LINK, UNICAST) + attributes
    _ask(NEWROUTE, REPLACE | CREATE, body, f"route {destination} dev {device}")


def delete_route(destination: str) -> None:
    """Forget the way to ``destination``; no error where there is none."""
    network = IPv4Network(destination)
    body = _route(network, SCOPE_ANY, 0) + _attribute(RTA_DST, network.network_address.packed)
    with contextlib.suppress(ProcessLookupError):
        _ask(DELROUTE, 0, body, f"route {destination}")


def silence(device: str) -> None:
    """Drop whatever comes in from ``device`` and would be forwarded (a frozen service's packets).

    A frozen socket is retransmitted by the kernel with later timestamps than the restored one will
    have, and the client would then refuse the target's packets until that clock catches up.
    """
    with contextlib.suppress(FileExistsError):
        _ask(NEWRULE, CREATE | EXCLUSIVE, _drop_rule(device), f"rule iif {device}")


def unsilence(device: str) -> None:
    """Undo `silence`; no error where it was not silenced."""
    with contextlib.suppress(FileNotFoundError):
        _ask(DELRULE, 0, _drop_rule(device), f"rule iif {device}")


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError as error:
        raise OSError(errno.ENODEV, f"there is no device {device} on this host") from error


def _route(network: IPv4Network, scope: int, kind: int) -> bytes:
    return struct.pack(
        "=BBBBBBBBI",
        *(socket.AF_INET, network.prefixlen, 0, 0, TABLE_MAIN, PROTO_STATIC, scope, kind, 0),
    )


def _drop_rule(device: str) -> bytes:
    header = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, FR_ACT_BLACKHOLE, 0)
    name = _attribute(FRA_IIFNAME, device.encode() + b"\0")
    return header + name + _attribute(FRA_PRIORITY, struct.pack("=I", RULE_PRIORITY))


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _ask(kind: int, flags: int, body: bytes, what: str) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.bind((0, 0))
        header = struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK | flags, 1, 0)
        link.send(header + body)
        answer = link.recv(65536)
    (code,) = struct.unpack_from("=i", answer, 16)
    if code:
        raise OSError(-code, f"{what}: {os.strerror(-code)}")
