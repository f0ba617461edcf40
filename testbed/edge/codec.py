"""Ways to make bytes smaller: by libzstd and liblz4 where the host has them, else by zlib.

Debian's apt and dpkg bring both libraries. They are called directly: other threads run meanwhile,
and every Python finds them. What is packed carries a checksum.
"""

import ctypes
import functools
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

_SIZE, _BYTES, _ANY, _INT = ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
_ZSTD_LEVEL, _ZSTD_CHECKSUM = 100, 201
_LZ4F_VERSION = 100


class Codec(Protocol):
    """One way to make bytes smaller, and back; used by one thread at a time."""

    def pack(self, data: bytes, level: int) -> bytes:
        """Make ``data`` smaller; a higher level takes longer and may give less."""

    def expand(self, data: bytes, size: int) -> bytes:
        """Undo `pack`; ``size`` is how much there was.

        Raises
        ------
        ValueError
            If the content is damaged.
        """


class Zlib:
    """Everywhere, and slow."""

    def pack(self, data: bytes, level: int) -> bytes:
        """See `Codec`."""
        return zlib.compress(data, level)

    def expand(self, data: bytes, size: int) -> bytes:
        """See `Codec`."""
        try:
            return zlib.decompress(data, bufsize=max(size, 1))
        except zlib.error as error:
            raise ValueError(str(error)) from error


class Zstd:
    """Zstandard by its library; levels 1 to 19."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libzstd.so.1")
        self._bound = _declared(library.ZSTD_compressBound, _SIZE, _SIZE)
        self._set = _declared(library.ZSTD_CCtx_setParameter, _SIZE, _ANY, _INT, _INT)
        self._pack = _declared(
            library.ZSTD_compress2, _SIZE, _ANY, _ANY, _SIZE, _BYTES, _SIZE
        )  # fmt: skip
        self._expand = _declared(library.ZSTD_decompress, _SIZE, _ANY, _SIZE, _BYTES, _SIZE)
        self._is_error = _declared(library.ZSTD_isError, ctypes.c_uint, _SIZE)
        self._error = _declared(library.ZSTD_getErrorName, _BYTES, _SIZE)
        self._context = _declared(library.ZSTD_createCCtx, _ANY)()
        self._set(self._context, _ZSTD_CHECKSUM, 1)

    def pack(self, data: bytes, level: int) -> bytes:
        """See `Codec`."""
        room = ctypes.create_string_buffer(self._bound(len(data)))
        self._set(self._context, _ZSTD_LEVEL, level)
        size = self._pack(self._context, room, len(room), data, len(data))
        return ctypes.string_at(room, self._checked(size))

    def expand(self, data: bytes, size: int) -> bytes:
        """See `Codec`."""
        room = ctypes.create_string_buffer(max(size, 1))
        return ctypes.string_at(
            room, self._checked(self._expand(room, size, data, len(data)))
        )  # fmt: skip

    def _checked(self, size: int) -> int:
        if self._is_error(size):
            raise ValueError(self._error(size).decode())
        return size


class Lz4:
    """LZ4 frames by its library; level 0 is the fast one."""

    def __init__(self) -> None:
        library = ctypes.CDLL("liblz4.so.1")
        self._bound = _declared(library.LZ4F_compressFrameBound, _SIZE, _SIZE, _ANY)
        self._pack = _declared(library.LZ4F_compressFrame, _SIZE, _ANY, _SIZE, _BYTES, _SIZE, _ANY)
        self._begin = _declared(library.LZ4F_createDecompressionContext, _SIZE, _ANY, ctypes.c_uint)
        self._expand = _declared(
            library.LZ4F_decompress, _SIZE, _ANY, _ANY, _ANY, _BYTES, _ANY, _ANY
        )
        self._end = _declared(library.LZ4F_freeDecompressionContext, _SIZE, _ANY)
        self._is_error = _declared(library.LZ4F_isError, ctypes.c_uint, _SIZE)
        self._error = _declared(library.LZ4F_getErrorName, _BYTES, _SIZE)

    def pack(self, data: bytes, level: int) -> bytes:
        """See `Codec`."""
        wishes = _Lz4Wishes(checksum=1, level=level)
        room = ctypes.create_string_buffer(self._bound(len(data), ctypes.byref(wishes)))
        size = self._pack(room, len(room), data, len(data), ctypes.byref(wishes))
        return ctypes.string_at(room, self._checked(size))

    def expand(self, data: bytes, size: int) -> bytes:
        """See `Codec`."""
        context = ctypes.c_void_p()
        self._checked(self._begin(ctypes.byref(context), _LZ4F_VERSION))
        try:
            room = ctypes.create_string_buffer(max(size, 1))
            written, read = ctypes.c_size_t(size), ctypes.c_size_t(len(data))
            lacking = self._expand(
                context, room, ctypes.byref(written), data, ctypes.byref(read), None
            )
            if self._checked(lacking):
                raise ValueError(f"{read.value} of {len(data)} bytes read, and not at the end")
            return ctypes.string_at(room, written.value)
        finally:
            self._end(context)

    def _checked(self, size: int) -> int:
        if self._is_error(size):
            raise ValueError(self._error(size).decode())
        return size


class _Lz4Wishes(ctypes.Structure):
    """``LZ4F_preferences_t``."""

    _fields_ = (
        ("block_size", ctypes.c_uint),
        ("block_mode", ctypes.c_uint),
        ("checksum", ctypes.c_uint),
        ("frame_type", ctypes.c_uint),
        ("content_size", ctypes.c_ulonglong),
        ("dictionary", ctypes.c_uint),
        ("block_checksum", ctypes.c_uint),
        ("level", _INT),
        ("flush", ctypes.c_uint),
        ("favour_expanding", ctypes.c_uint),
        ("reserved", ctypes.c_uint * 3),
    )


def _declared(function: Any, result: Any, *arguments: Any) -> Any:
    """A library's function with its types."""
    function.restype, function.argtypes = result, arguments
    return function


KNOWN: dict[str, type[Codec]] = {"lz4": Lz4, "zstd": Zstd, "zlib": Zlib}


@functools.cache
def find(name: str) -> Codec:
    """The codec of this name.

    Raises
    ------
    ValueError
        If there is none, or this host lacks its library.
    """
    try:
        return KNOWN[name]()
    except (KeyError, OSError, AttributeError) as error:
        raise ValueError(f"this host cannot compress by {name!r}: {error}") from error


def available(names: Sequence[str] = tuple(KNOWN)) -> list[str]:
    """Those of ``names`` that work on this host."""
    there = []
    for name in names:
        try:
            find(name)
        except ValueError:
            continue
        there.append(name)
    return there
