"""What ``thinfs status`` and the metrics say of repositories and proxies."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from thinfs.cli.status import answering
from thinfs.config import SourcesConfig
from thinfs.control.values import CircuitStatus
from thinfs.errors import TransportError
from thinfs.fetch import metrics
from thinfs.fetch.counters import FetchCounters
from thinfs.fetch.routes import Host, Routes

DIGEST = bytes(32)


@pytest.fixture
def routes() -> Routes:
    """One repository that does not answer, another one that does, through the second proxy."""
    made = Routes(SourcesConfig(proxies="http://u:secret@a:1;http://b:1", host_reset_s=1800))
    hosts = [Host("http://dead", proxied=True), Host("http://well", proxied=True)]
    journey = made.journey(DIGEST)
    for _ in range(2):
        route = journey.next(hosts, 100)
        assert route is not None
        journey.failed(route, TransportError("no route\x1b[31m to host"), 100)
    first = journey.next(hosts, 100)
    assert first is not None
    journey.failed(first, TransportError("proxy says no", blame="proxy"), 100)
    second = journey.next(hosts, 100)
    assert second is not None
    journey.answered(second, 100)
    return made


@pytest.mark.expects_log("does not answer")
def test_the_status_tells_who_answers_since_when_not_and_why(routes: Routes) -> None:
    dead, well, first, second = routes.status(now=280)
    assert [each.kind for each in (dead, well, first, second)] == ["repository"] * 2 + ["proxy"] * 2
    since = "does not answer since 3 min"
    shown = "(preferred again in 27 min): no route\x1b[31m to host"
    assert answering(dead) == f"http://dead {since} {shown}"
    assert answering(well) == "http://well answers"
    assert answering(first) == f"http://a:1 {since} (preferred again in 2 min): proxy says no"
    assert answering(second) == "http://b:1 answers"


def test_what_may_be_tried_again_is_said_to_be() -> None:
    circuit = CircuitStatus("repository", "http://dead", False, 3, 4000, 0, "no")
    assert answering(circuit) == "http://dead does not answer since 1 h 6 min (to be tried): no"


@pytest.mark.expects_log("does not answer")
def test_metrics_have_a_line_for_each_repository_and_proxy(routes: Routes) -> None:
    registry = CollectorRegistry()
    metrics.register(registry, FetchCounters(), lambda: 280.0, routes)
    text = generate_latest(registry).decode()
    for line in (
        'thinfs_source_up{address="http://dead",kind="repository"} 0.0',
        'thinfs_source_up{address="http://well",kind="repository"} 1.0',
        'thinfs_source_up{address="http://a:1",kind="proxy"} 0.0',
        'thinfs_source_up{address="http://b:1",kind="proxy"} 1.0',
        'thinfs_source_failures_total{address="http://dead",kind="repository"} 1.0',
    ):
        assert line in text.splitlines()
    assert "secret" not in text
