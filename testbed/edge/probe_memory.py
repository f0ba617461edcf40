"""Trials of what the kernel offers to find the pages that a process has written."""

import ctypes
import mmap
import os
import platform
import struct
from pathlib import Path

from .trial import NotTriedError, check, libc

_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "armv7l": 388, "i686": 374}
_UFFDIO_API, _UFFDIO_REGISTER, _UFFD_API = 0xC018AA3F, 0xC020AA00, 0xAA
_UFFD_USER_MODE_ONLY, _UFFD_REGISTER_WP = 1, 2
_UFFD_WP, _UFFD_WP_UNPOPULATED, _UFFD_WP_ASYNC = 1 << 0, 1 << 13, 1 << 15
_PAGEMAP_SCAN, _PM_SCAN_WP, _PAGE_IS_WRITTEN = 0xC0606610, 3, 1 << 1
_SOFT_DIRTY = 1 << 55


def _pagemap_entry(address: int) -> int:
    page = os.sysconf("SC_PAGESIZE")
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(address // page * 8)
        return int(struct.unpack("Q", pagemap.read(8))[0])


def _touched_page() -> tuple[mmap.mmap, int]:
    memory = mmap.mmap(-1, os.sysconf("SC_PAGESIZE"), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[0] = 1
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def try_soft_dirty() -> str:
    """Clear a page's soft-dirty bit, touch the page and see the bit again."""
    memory, address = _touched_page()
    Path("/proc/self/clear_refs").write_text("4")
    cleared = _pagemap_entry(address) & _SOFT_DIRTY
    memory[0] = 2
    if cleared or not _pagemap_entry(address) & _SOFT_DIRTY:
        raise OSError("the kernel has no soft-dirty bit (CONFIG_MEM_SOFT_DIRTY)")
    return "bit 55 of pagemap"


def _userfaultfd(wanted: int) -> tuple[int, int]:
    """Open a userfaultfd with some features; return it and the features the kernel has."""
    number = _USERFAULTFD.get(platform.machine())
    if number is None:
        raise NotTriedError(f"system call number unknown on {platform.machine()}")
    fd = check(libc().syscall(number, os.O_CLOEXEC | _UFFD_USER_MODE_ONLY), "userfaultfd")
    arguments = (ctypes.c_uint64 * 3)(_UFFD_API, wanted, 0)
    check(libc().ioctl(fd, ctypes.c_ulong(_UFFDIO_API), arguments), "UFFDIO_API")
    return fd, arguments[1]


def try_userfaultfd() -> str:
    """Open a userfaultfd and read its features."""
    return f"features {_userfaultfd(0)[1]:#x}"


def try_wp_async() -> str:
    """Ask for write protection that the kernel lifts by itself."""
    has = _userfaultfd(0)[1]
    if not has & _UFFD_WP_ASYNC:
        raise OSError(f"not among the kernel's features ({has:#x}); it came with 6.7")
    _userfaultfd(_UFFD_WP | _UFFD_WP_ASYNC | _UFFD_WP_UNPOPULATED)
    return "write-protect async"


def try_pagemap_scan() -> str:
    """Track a page: once protected it is clean, once written it is found."""
    fd, _ = _userfaultfd(_UFFD_WP | _UFFD_WP_ASYNC | _UFFD_WP_UNPOPULATED)
    memory, address = _touched_page()
    page = os.sysconf("SC_PAGESIZE")
    region = (ctypes.c_uint64 * 4)(address, page, _UFFD_REGISTER_WP, 0)
    check(libc().ioctl(fd, ctypes.c_ulong(_UFFDIO_REGISTER), region), "UFFDIO_REGISTER")
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    found = (ctypes.c_uint64 * 3)()

    def scan() -> int:
        written = _PAGE_IS_WRITTEN
        arguments = (ctypes.c_uint64 * 12)(
            96, _PM_SCAN_WP, address, address + page, 0, ctypes.addressof(found), 1, 0,
            0, written, 0, written,
        )  # fmt: skip
        ioctl = libc().ioctl
        return check(ioctl(pagemap, ctypes.c_ulong(_PAGEMAP_SCAN), arguments), "PAGEMAP_SCAN")

    first, second = scan(), scan()
    memory[0] = 2
    if (first, second, scan()) != (1, 0, 1):
        raise OSError("PAGEMAP_SCAN answers, but not what was written")
    return "finds exactly what was written"
