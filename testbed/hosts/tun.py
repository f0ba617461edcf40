"""TUN devices in other network namespaces: the two ends of an emulated link."""

import ctypes
import errno
import os
import struct
from fcntl import ioctl
from socket import AF_INET, SOCK_DGRAM, socket

from testbed.errors import LabError
from testbed.hosts.delay_line_config import End

VNET_HEADER_BYTES = 10
"""What the kernel puts ahead of every packet (``struct virtio_net_hdr``)."""
READ_BYTES = 65536 + VNET_HEADER_BYTES

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_UP = 0x0001, 0x1000, 0x4000, 0x1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8913, 0x8914, 0x8922, 0x8943
_TUN_F_CSUM, _TUN_F_TSO, _TUN_F_USO = 0x01, 0x02 | 0x04, 0x20 | 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def _enter(netns: int, name: str) -> None:
    if _libc.setns(netns, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise LabError(f"cannot enter network namespace {name}: {os.strerror(number)} (root?)")


def open_end(end: End, *, whole: bool, txqueuelen: int) -> int:
    """Make an end's TUN device in its namespace, bring it up and return its file descriptor.

    Parameters
    ----------
    end : End
        Where, under which name and with which MTU.
    whole : bool
        Let large segments pass whole; otherwise the kernel cuts them into packets first.
    txqueuelen : int
        Packets that the device holds until they are read.

    Raises
    ------
    LabError
        If there is no such namespace, no TUN, no permission, or the name is taken.
    """
    path = end.netns if end.netns.startswith("/") else f"/run/netns/{end.netns}"
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(
            f"{end.host}: there is no network namespace at {path} ({error.strerror}); "
            "was the host started?"
        ) from error
    here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there, path)
        try:
            return _make_device(end, whole=whole, txqueuelen=txqueuelen)
        finally:
            _enter(here, "of the delay line")
    finally:
        os.close(there)
        os.close(here)


def _make_device(end: End, *, whole: bool, txqueuelen: int) -> int:
    step, fd = "open /dev/net/tun", -1
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        step = f"make device {end.device}"
        name = end.device.encode()
        ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name, _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
        ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
        let_pass(fd, whole=whole)
        step = f"bring up {end.device}"
        with socket(AF_INET, SOCK_DGRAM) as control:
            ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name, end.mtu_bytes))
            ioctl(control, _SIOCSIFTXQLEN, struct.pack("16si20x", name, txqueuelen))
            flags = struct.unpack_from(
                "H", ioctl(control, _SIOCGIFFLAGS, struct.pack("16s24x", name)), 16
            )[0]
            ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | _IFF_UP))
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        hint = "another device has that name" if error.errno in {errno.EBUSY, errno.EINVAL} else ""
        raise LabError(
            f"{end.host}: cannot {step} in {end.netns}: {error.strerror}. "
            + (hint or "The delay line needs root and a kernel with CONFIG_TUN")
        ) from error
    return fd


def let_pass(fd: int, *, whole: bool) -> None:
    """Let large segments pass whole, or have the kernel cut them into packets first."""
    if not whole:
        ioctl(fd, _TUNSETOFFLOAD, 0)
        return
    try:
        ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO | _TUN_F_USO)
    except OSError:  # before kernel 6.2 UDP was always cut
        ioctl(fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO)
