"""Which repository is asked next, and through which proxy. Pure: time comes in as an argument.

CVMFS's habits: the next proxy first, then the next repository; what has failed comes after what
has not, for a while; then the preferred one is tried again. Which of the two is to blame is often
not known: when another proxy brings the object it was the proxy, when that fails too it is the
repository.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thinfs.control.values import CircuitStatus
from thinfs.fetch.circuits import Circuits
from thinfs.fetch.proxies import DIRECT, in_order, parse_proxies
from thinfs.transfer import without_password

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thinfs.config import SourcesConfig
    from thinfs.errors import TransportError
    from thinfs.fetch.proxies import Proxy

log = logging.getLogger(__name__)

MAX_RETRY_AFTER_S: Final = 300.0
"""A server that wants to be left alone longer is asked again all the same."""


@dataclass(frozen=True, slots=True)
class Host:
    """A repository as routes know it.

    Attributes:
        url: its address.
        proxied: whether proxies apply to it.
    """

    url: str
    proxied: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A way to an object: a repository, and the proxy to go through."""

    host: Host
    proxy: Proxy

    @property
    def way(self) -> str | None:
        """What the proxy's circuit is called; ``None``: it has none."""
        return self.proxy if self.proxy is None else self.proxy or DIRECT


class Routes:
    """What is known of all repositories and proxies.

    Args:
        config: proxies and times.

    Raises:
        UsageError: the list of proxies is malformed.
    """

    def __init__(self, config: SourcesConfig) -> None:
        self._groups = parse_proxies(config.proxies)
        self.hosts = Circuits(config.host_reset_s)
        self.proxies = Circuits(config.proxy_reset_s)

    def journey(self, digest: bytes, *, considerate: bool = False) -> Journey:
        """One object's way through all routes.

        Args:
            digest: of the object.
            considerate: leave out what has just failed.
        """
        return Journey(self, in_order(self._groups, digest), considerate=considerate)

    def penalty(self, route: Route, now: float) -> int:
        """How many of the route's two parts have failed and rest."""
        host_rests = self.hosts.rests(route.host.url, now)
        return host_rests + (route.way is not None and self.proxies.rests(route.way, now))

    def recovers(self, route: Route, now: float) -> bool:
        """Whether a part of the route has just failed."""
        through = route.way is not None and self.proxies.recovers(route.way, now)
        return through or self.hosts.recovers(route.host.url, now)

    def asked(self, route: Route, now: float) -> None:
        """A download sets out on the route."""
        self.hosts.asked(route.host.url, now)
        if route.way is not None:
            self.proxies.asked(route.way, now)

    def answered(self, route: Route) -> None:
        """Something came: both parts are well."""
        if self.hosts.answered(route.host.url):
            log.info("repository %s answers again", route.host.url)
        if route.way is not None and self.proxies.answered(route.way):
            log.info("proxy %s answers again", without_password(route.way))

    def host_failed(self, url: str, error: TransportError, now: float) -> None:
        """The repository is to blame."""
        pause_s = min(error.retry_after_s, MAX_RETRY_AFTER_S)
        if self.hosts.failed(url, str(error), now, pause_s):
            log.warning("repository %s does not answer: %s", url, error)

    def proxy_failed(self, proxy: str, error: TransportError, now: float) -> None:
        """The proxy is to blame."""
        if self.proxies.failed(proxy, str(error), now):
            log.warning("proxy %s does not answer: %s", without_password(proxy), error)

    def last_error(self, url: str) -> str:
        """What a repository's last failure was; empty when there was none."""
        return self.hosts.error(url)

    def status(self, now: float) -> list[CircuitStatus]:
        """All repositories and proxies that have been asked."""
        kinds = (("repository", self.hosts), ("proxy", self.proxies))
        return [
            CircuitStatus(
                kind=kind,
                address=without_password(address),
                ok=circuit.failed_since is None,
                failures=circuit.failures,
                failed_for_s=0.0 if circuit.failed_since is None else now - circuit.failed_since,
                next_try_s=0.0
                if circuit.failed_since is None
                else max(0.0, circuit.next_try - now),
                error="" if circuit.failed_since is None else circuit.error,
            )
            for kind, circuits in kinds
            for address, circuit in circuits.items()
        ]


class Journey:
    """One object's way: no route twice, the most promising one first.

    Args:
        routes: what is known.
        proxies: in the order in which the object prefers them.
        considerate: see :meth:`Routes.journey`.
    """

    def __init__(self, routes: Routes, proxies: Sequence[Proxy], *, considerate: bool) -> None:
        self._routes = routes
        self._proxies = proxies
        self._considerate = considerate
        self._tried: set[tuple[str, Proxy]] = set()
        self._done: set[str] = set()
        self._suspected: dict[str, list[tuple[str, TransportError]]] = {}

    def next(self, hosts: Sequence[Host], now: float) -> Route | None:
        """The route to take now; ``None`` when all have been.

        Args:
            hosts: repositories, the preferred one first; more may come from call to call.
            now: on the loop's clock.
        """
        left = [
            Route(host, proxy)
            for host in hosts
            if host.url not in self._done
            for proxy in (self._proxies if host.proxied else (None,))
            if (host.url, proxy) not in self._tried
        ]
        if self._considerate:
            left = [route for route in left if not self._routes.recovers(route, now)]
        if not left:
            return None
        # min() takes the first of equals: hosts are in order, and proxies within a host.
        best = min(left, key=lambda route: self._routes.penalty(route, now))
        self._tried.add((best.host.url, best.proxy))
        self._routes.asked(best, now)
        return best

    def answered(self, route: Route, now: float) -> None:
        """Something has come, if only the word that there is no such object.

        Other proxies would bring the same; those that failed before have failed alone.
        """
        self._done.add(route.host.url)
        self._routes.answered(route)
        for way, error in self._suspected.pop(route.host.url, ()):
            self._routes.proxy_failed(way, error, now)

    def failed(self, route: Route, error: TransportError, now: float) -> None:
        """All attempts on ``route`` have failed: find out who is to blame."""
        url, way = route.host.url, route.way
        if way is None or not route.host.proxied or error.retry_after_s:
            self._give_up(url, error, now)
        elif error.blame == "proxy":
            self._routes.proxy_failed(way, error, now)
        else:
            suspected = self._suspected.setdefault(url, [])
            suspected.append((way, error))
            if len(suspected) > 1 or len(self._proxies) == 1:
                self._give_up(url, error, now)

    def _give_up(self, url: str, error: TransportError, now: float) -> None:
        self._done.add(url)
        self._suspected.pop(url, None)
        self._routes.host_failed(url, error, now)
