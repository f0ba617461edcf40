"""Few hosts serve many sites of a map: which host stands for which site, one after another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from testbed.errors import ScenarioError


@dataclass(frozen=True)
class Binding:
    """The hosts that stand for a site now."""

    site: str
    server: str
    base_station: str


@dataclass
class Binder:
    """Gives sites to hosts for one user; never source and target to the same.

    A base station and a server with the same place in their lists stand side by side, so the pair
    is kept together where it can be.

    Parameters
    ----------
    servers, base_stations : list of str
        Hosts that may be used, in the scenario's order.
    fixed : mapping of site to server
        What the scenario decided (`Scenario.sites`).
    upper : mapping of site to list of str
        Sites above the cells, and the servers that may stand for each. They have no base station.
    """

    servers: list[str]
    base_stations: list[str]
    fixed: Mapping[str, str] = field(default_factory=dict)
    upper: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _bound: dict[str, Binding] = field(default_factory=dict)

    def bind(
        self,
        site: str,
        *,
        server_in_use: str = "",
        station_in_use: str = "",
        held_by: str = "",
        spared: str = "",
    ) -> Binding:
        """The hosts for ``site``, none of which is in use; an older binding of them ends.

        ``held_by`` is the server that holds the service for this very site, if one does; ``spared``
        one that is taken only if there is no other.

        Raises
        ------
        ScenarioError
            If every host is in use, or the scenario fixed the site to the one in use.
        """
        known = self._bound.get(site)
        if held_by and known and known.server != held_by:
            known = None
        if known and server_in_use != known.server and station_in_use != known.base_station:
            return known
        server = held_by or self.fixed.get(site, "")
        if not server and known and known.server != server_in_use:
            server = known.server  # what was sent there ahead stays of use
        if server and server == server_in_use:
            raise ScenarioError(
                f"sites.{site}: {server} holds the service already, under another site; give "
                "neighbouring sites different hosts"
            )
        if not server:
            fixed = set(self.fixed.values())
            able = self.upper.get(site, self.servers)
            free = [s for s in able if s != server_in_use and s not in fixed]
            free = [s for s in free if s != spared] or free
            if not free:
                raise ScenarioError(f"no server is free for site {site}; add one to hosts")
            server = self._beside(free, station_in_use)
        station = "" if site in self.upper else self._station(server, station_in_use)
        self._bound = {
            name: b
            for name, b in self._bound.items()
            if b.server != server and (not station or b.base_station != station)
        }
        binding = self._bound[site] = Binding(site, server, station)
        return binding

    def known(self, site: str) -> Binding | None:
        """The hosts that stand for a site now, if any do."""
        return self._bound.get(site)

    def _beside(self, free: list[str], station_in_use: str) -> str:
        """A free server whose own base station is free too, if there is one."""
        for server in free:
            if self._own_station(server) not in {"", station_in_use}:
                return server
        return free[0]

    def _station(self, server: str, station_in_use: str) -> str:
        own = self._own_station(server)
        if own and own != station_in_use:
            return own
        others = [s for s in self.base_stations if s != station_in_use]
        return others[0] if others else self.base_stations[0]

    def _own_station(self, server: str) -> str:
        place = self.servers.index(server) if server in self.servers else len(self.servers)
        return self.base_stations[place] if place < len(self.base_stations) else ""
