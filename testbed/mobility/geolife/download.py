"""Fetching one large file over HTTP: resumed after a broken line, whole or not at all."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from testbed.errors import DataImportError

ATTEMPTS = 4
TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 20
_PARTIAL = 206
_WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Remote:
    """What a server says of a file: enough to see whether it is still the same."""

    url: str
    etag: str = ""
    modified: str = ""
    size_bytes: int = -1

    def same(self, other: "Remote") -> bool:
        """Whether the file has certainly not changed."""
        return self == other and bool(self.etag or (self.modified and self.size_bytes >= 0))


def ask(url: str) -> Remote:
    """What the server says of a file, without fetching it.

    Raises
    ------
    DataImportError
        If the server cannot be reached or refuses.
    """
    try:
        with _open(url, method="HEAD") as answer:
            return _remote(url, answer)
    except (OSError, http.client.HTTPException) as error:
        raise DataImportError(f"{url}: {_why(error)}. Check the address and the network") from error


def fetch(url: str, target: Path, *, progress: bool = True) -> Remote:
    """Fetch a file; a broken line is taken up again where the server can.

    Parameters
    ----------
    url : str
        ``http`` or ``https``.
    target : Path
        Must not exist; on failure what came so far stays there for the caller to remove.
    progress : bool
        Show a bar on a terminal.

    Raises
    ------
    DataImportError
        After several attempts, with the reason of the last one.
    """
    known: Remote | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            known = _once(url, target, known, progress=progress)
        except urllib.error.HTTPError as error:
            if error.code not in _WORTH_A_RETRY or attempt == ATTEMPTS:
                raise DataImportError(f"{url}: {_why(error)}. Check the address") from error
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as e:
            if attempt == ATTEMPTS:
                raise DataImportError(
                    f"{url}: {_why(e)} ({ATTEMPTS} attempts). Check the network, or fetch it "
                    "yourself and name the file"
                ) from e
        else:
            if known.size_bytes < 0 or target.stat().st_size == known.size_bytes:
                return known
            if attempt == ATTEMPTS:
                raise DataImportError(
                    f"{url}: {target.stat().st_size} of {known.size_bytes} bytes came "
                    f"({ATTEMPTS} attempts)"
                )
        time.sleep(2.0**attempt)
    raise AssertionError  # the last attempt returns or raises


def _once(url: str, target: Path, known: Remote | None, *, progress: bool) -> Remote:
    there = target.stat().st_size if target.exists() else 0
    headers = {}
    validator = (known.etag or known.modified) if known else ""
    if there and validator:
        headers = {"Range": f"bytes={there}-", "If-Range": validator}
    with _open(url, headers=headers) as answer:
        resumed = answer.status == _PARTIAL
        remote = known if resumed and known else _remote(url, answer)
        with (
            target.open("ab" if resumed else "wb") as file,
            tqdm(
                total=remote.size_bytes if remote.size_bytes >= 0 else None,
                initial=there if resumed else 0,
                unit="B",
                unit_scale=True,
                desc="fetch",
                leave=False,
                disable=None if progress else True,
            ) as bar,
        ):
            while chunk := answer.read(_CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    return remote


def _open(url: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Any:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise DataImportError(f"{url}: only http and https addresses can be fetched")
    quoted = parts._replace(path=urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~"))
    request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
        quoted.geturl(), method=method, headers={"User-Agent": "testbed", **(headers or {})}
    )
    return urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310


def _remote(url: str, answer: Any) -> Remote:
    said = answer.headers
    return Remote(
        url,
        said.get("ETag", ""),
        said.get("Last-Modified", ""),
        int(said.get("Content-Length", -1)),
    )


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return str(getattr(error, "reason", "") or error or type(error).__name__)
