"""What a delay line is told: its links, their ends and what happens to packets in between."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from testbed.errors import LabError

DEFAULT_QUEUE_BYTES = 64 * 2**20
"""What may be on its way in one direction that names no limit of its own."""
DEFAULT_MTU_BYTES = 1500
DEFAULT_TXQUEUELEN = 2000
MAX_DEVICE_NAME = 15
"""Linux' IFNAMSIZ, less the closing zero."""


@dataclass(frozen=True)
class End:
    """One end of a link: a TUN device to be made in a network namespace.

    netns : a name under ``/run/netns`` or a path such as ``/proc/PID/ns/net``.
    """

    host: str
    netns: str
    device: str
    mtu_bytes: int = DEFAULT_MTU_BYTES


@dataclass(frozen=True)
class Setting:
    """What happens to packets in one direction.

    queue_bytes : how much may be on its way; what comes on top is dropped and counted.
    """

    delay_s: float = 0.0
    loss: float = 0.0
    queue_bytes: int = DEFAULT_QUEUE_BYTES


@dataclass(frozen=True)
class LineLink:
    """Two ends; ``settings[0]`` holds from the first end to the second, ``settings[1]`` back."""

    ends: tuple[End, End]
    settings: tuple[Setting, Setting]

    @property
    def name(self) -> str:
        """The two hosts, as messages and statistics call the link."""
        return f"{self.ends[0].host} - {self.ends[1].host}"


@dataclass(frozen=True)
class LineConfig:
    """Everything a delay line is told.

    ready_path : written once all devices are up. stats_path : written on SIGUSR1 and at the end.
    scheduling : ``fifo`` (falls back to ``nice``), ``nice`` or ``none``.
    """

    links: tuple[LineLink, ...]
    seed: int = 1
    txqueuelen: int = DEFAULT_TXQUEUELEN
    scheduling: str = "fifo"
    ready_path: str = ""
    stats_path: str = ""

    def to_json(self) -> str:
        """The text that `read_config` reads."""
        return json.dumps(asdict(self), indent=1)


def read_config(path: str | Path) -> LineConfig:
    """Read a delay line's configuration and check every value.

    Raises
    ------
    LabError
        With file, link and key of the first thing that is wrong.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"{path}: not a delay line's configuration ({error})") from error
    try:
        links = tuple(
            LineLink(
                ends=(End(**link["ends"][0]), End(**link["ends"][1])),
                settings=(Setting(**link["settings"][0]), Setting(**link["settings"][1])),
            )
            for link in content.pop("links")
        )
        config = LineConfig(links=links, **content)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise LabError(
            f"{path}: a key is missing or unknown ({error}); see LineConfig, LineLink, End and "
            "Setting in testbed/hosts/delay_line_config.py"
        ) from error
    _check(config, path)
    return config


def _check(config: LineConfig, path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    if config.scheduling not in {"fifo", "nice", "none"}:
        raise LabError(f"{path}: scheduling is {config.scheduling!r}; use fifo, nice or none")
    for link in config.links:
        for setting in link.settings:
            if not (setting.delay_s >= 0 and 0 <= setting.loss <= 1 and setting.queue_bytes > 0):
                raise LabError(
                    f"{path}: link {link.name}: {setting} makes no sense; delay_s is at least 0 s, "
                    "loss lies between 0 and 1, queue_bytes is above 0"
                )
        for end in link.ends:
            if not 0 < len(end.device) <= MAX_DEVICE_NAME:
                raise LabError(
                    f"{path}: link {link.name}: device {end.device!r} must have 1 to "
                    f"{MAX_DEVICE_NAME} characters"
                )
            if (end.netns, end.device) in seen:
                raise LabError(f"{path}: device {end.device} in {end.netns} is named twice")
            seen.add((end.netns, end.device))
