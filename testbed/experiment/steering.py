"""Where one user's packets go: radio link, base station, edge, and back.

The user's host sends everything for services out of the link to its base station; the base station
knows at which edge the service is; every edge knows at which base station the user is.
"""

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.errors import HostUnreachableError
from testbed.hosts.lab import Lab
from testbed.hosts.plan import SERVICE, device

if TYPE_CHECKING:
    from concurrent.futures import Future

ANSWER_TIMEOUT_S = 10.0


@dataclass
class Steering:
    """Routes of one user and its service, and where both are now."""

    lab: Lab
    user_host: str
    service_address: str
    servers: tuple[str, ...]
    base_station: str = ""
    server: str = ""
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def connect(self, base_station: str) -> None:
        """Hand the radio link over: make the new way before leaving the old one."""
        with self._lock:
            reach = [self._lead_service(base_station)]
            user = self.lab.plan.hosts[self.user_host].data_address
            reach += [
                self.lab[server].start("route", destination=user, device=device(base_station))
                for server in self.servers
            ]
            done(reach)
            source = self.lab.plan.hosts[self.user_host].data_address
            self.lab[self.user_host].call(
                "route", destination=str(SERVICE), device=device(base_station), source=source
            )
            self.base_station = base_station

    def lead_to(self, server: str) -> "Future[Any]":
        """Lead the service's packets to another edge from now on; does not wait."""
        with self._lock:
            self.server = server
            return self._lead_service(self.base_station)

    def _lead_service(self, base_station: str) -> "Future[Any]":
        return self.lab[base_station].start(
            "route", destination=self.service_address, device=device(self.server)
        )


def done(calls: "list[Future[Any]]") -> None:
    """Wait for routes to be set.

    Raises
    ------
    HostUnreachableError
        If a host does not answer in time.
    """
    for call in calls:
        try:
            call.result(ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise HostUnreachableError(
                f"a host did not set a route within {ANSWER_TIMEOUT_S:.0f} s"
            ) from None
