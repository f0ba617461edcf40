"""Packets for a service that is on its way wait here, in the order in which they came.

The service's address is routed into a TUN device that only this module reads. When the service
answers, the route leads to it and the waiting packets are put back. Without this a client's TCP
would back off for longer than the service was away; with the address up but no socket behind it,
the kernel would answer with a reset.
"""

import contextlib
import fcntl
import os
import socket
import struct
from pathlib import Path

from . import netlink

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
LARGEST_PACKET = 65536
QUEUE_PACKETS = 10000


class Hold:
    """A waiting room for the packets of one service.

    Parameters
    ----------
    address : str
        The service's address.
    device : str
        Name of the TUN device to make; it vanishes with this object.
    """

    def __init__(self, address: str, device: str) -> None:
        self.address = address
        self.device = device
        self._tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN_NO_PI))
        settings = Path(f"/proc/sys/net/ipv4/conf/{device}")
        # The packets come back in from a device that is not the way to the client.
        (settings / "rp_filter").write_text("0")
        (settings / "accept_local").write_text("1")
        _set_up(device, QUEUE_PACKETS)

    def begin(self) -> None:
        """From now on packets for the service wait."""
        netlink.replace_route(self.address, self.device)

    def release(self, device: str) -> int:
        """Lead packets to the service behind ``device``, waiting ones first; return their number.

        Packets that were routed before and queued after are put back by the next call.
        """
        netlink.replace_route(self.address, device)
        return self.put_back()

    def put_back(self) -> int:
        """Send waiting packets on their way again, wherever it leads now; return their number."""
        released = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._tun, os.read(self._tun, LARGEST_PACKET))
                released += 1
        return released

    def close(self) -> None:
        """Drop what still waits and remove the device."""
        os.close(self._tun)


def _set_up(device: str, queue_packets: int) -> None:
    """Bring a device up with a long queue, by ioctl."""
    name = device.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, 0x8943, struct.pack("16si12x", name, queue_packets))  # SIOCSIFTXQLEN
        flags = fcntl.ioctl(asking, 0x8913, struct.pack("16s16x", name))  # SIOCGIFFLAGS
        (current,) = struct.unpack_from("=h", flags, 16)
        fcntl.ioctl(asking, 0x8914, struct.pack("16sh14x", name, current | 0x1))  # SIOCSIFFLAGS
