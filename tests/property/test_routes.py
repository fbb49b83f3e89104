"""Which repository is asked next, and through which proxy: whatever fails, and in which order."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinfs.config import SourcesConfig
from thinfs.errors import TransportError, UsageError
from thinfs.fetch.bucket import BURST_S, TokenBucket
from thinfs.fetch.circuits import PROBE_S, RECOVERY_S
from thinfs.fetch.proxies import DIRECT, in_order, parse_proxies
from thinfs.fetch.routes import MAX_RETRY_AFTER_S, Host, Route, Routes

pytestmark = pytest.mark.filterwarnings("error")

GROUPS = st.lists(st.integers(1, 3), min_size=1, max_size=3)
DIGEST = hashlib.sha256(b"an object").digest()


def notation(sizes: list[int]) -> str:
    """Groups of so many proxies; one of a single proxy at the end is DIRECT."""
    names = [
        "|".join(f"http://p{group}-{number}:3128" for number in range(size))
        for group, size in enumerate(sizes)
    ]
    return ";".join([*names, DIRECT])


def hosts(count: int) -> list[Host]:
    return [Host(f"http://h{number}", proxied=True) for number in range(count)]


def routes(proxies: str = "", **changes: float) -> Routes:
    return Routes(SourcesConfig(proxies=proxies, **changes))  # type: ignore[arg-type] # times only


def failing(blame: str = "", retry_after_s: float = 0.0) -> TransportError:
    return TransportError("scripted", blame=blame, retry_after_s=retry_after_s)  # type: ignore[arg-type] # letters of a script


@pytest.mark.expects_log("does not answer")
@given(GROUPS, st.integers(1, 3), st.data())
def test_a_journey_takes_no_route_twice_and_ends(
    sizes: list[int], count: int, data: st.DataObject
) -> None:
    known, now = routes(notation(sizes)), 0.0
    for _ in range(3):
        journey, taken = known.journey(DIGEST), []
        while route := journey.next(hosts(count), now):
            taken.append(route)
            journey.failed(route, failing(data.draw(st.sampled_from(["", "proxy", "host"]))), now)
            now += data.draw(st.floats(0, 400))
        assert len(taken) == len(set(taken)) <= count * (sum(sizes) + 1)
        assert {route.host for route in taken} == set(hosts(count))


@pytest.mark.expects_log("does not answer")
@given(GROUPS, st.integers(1, 3), st.data())
def test_as_long_as_one_route_works_the_object_comes(
    sizes: list[int], count: int, data: st.DataObject
) -> None:
    known, now = routes(notation(sizes)), 0.0
    all_proxies = in_order(parse_proxies(notation(sizes)), DIGEST)
    for _ in range(4):
        well_host = data.draw(st.sampled_from(hosts(count)))
        # One repository is down for all, or one proxy works: what two proxies agree on is believed.
        dead = data.draw(st.sets(st.sampled_from(hosts(count)))) - {well_host}
        dead_proxy = data.draw(st.sampled_from(all_proxies))
        journey, came = known.journey(DIGEST), False
        while not came and (route := journey.next(hosts(count), now)):
            if route.host in dead or (route.proxy == dead_proxy and len(all_proxies) > 1):
                journey.failed(route, failing(), now)
            else:
                journey.answered(route, now)
                came = True
            now += data.draw(st.floats(0, 50))
        assert came


@given(GROUPS, st.binary(min_size=32, max_size=32))
def test_groups_keep_their_order_and_share_by_object(sizes: list[int], digest: bytes) -> None:
    groups = parse_proxies(notation(sizes))
    order = in_order(groups, digest)
    assert order[-1] == ""
    place = 0
    for group in groups:
        assert sorted(order[place : place + len(group)]) == sorted(group)  # type: ignore[type-var] # named ones only
        place += len(group)


def test_a_group_shares_objects_about_evenly_and_one_that_leaves_takes_only_its_own() -> None:
    three = parse_proxies("http://a:1|http://b:1|http://c:1")
    two = parse_proxies("http://a:1|http://c:1")
    digests = [hashlib.sha256(b"%d" % number).digest() for number in range(3000)]
    first = [in_order(three, digest)[0] for digest in digests]
    for proxy in ("http://a:1", "http://b:1", "http://c:1"):
        assert 800 < first.count(proxy) < 1200
    for before, digest in zip(first, digests, strict=True):
        if before != "http://b:1":
            assert in_order(two, digest)[0] == before


@pytest.mark.parametrize(
    "text",
    ["a:3128", "http://a", "ftp://a:1", "http://a:1;;", "|", "http://a:1/path", "direct",
     "http://a:1|http://a:1", "http://a:99999", "http://a:1 http://b:1", "http://a:b"],
)  # fmt: skip
def test_a_malformed_list_of_proxies_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"\[sources\] proxies"):
        parse_proxies(text)


def test_a_refusal_shows_no_password() -> None:
    with pytest.raises(UsageError) as caught:
        parse_proxies("http://user:secret@proxy")
    assert "secret" not in str(caught.value)


@pytest.mark.expects_log("repository http://h0 does not answer")
def test_the_preferred_repository_is_tried_again_by_one_download_when_its_time_has_come() -> None:
    known = routes(host_reset_s=1800)
    first = known.journey(DIGEST)
    route = first.next(hosts(2), 0)
    assert route == Route(hosts(2)[0], None)
    first.failed(route, failing(), 0)

    def asked(now: float) -> str:
        chosen = known.journey(DIGEST).next(hosts(2), now)
        assert chosen is not None
        return chosen.host.url

    assert asked(1) == asked(1799) == "http://h1"
    assert asked(1800) == "http://h0"
    assert asked(1801) == asked(1800 + PROBE_S - 1) == "http://h1"
    assert asked(1800 + PROBE_S) == "http://h0"
    known.answered(route)
    assert asked(1802) == asked(1803) == "http://h0"


@pytest.mark.expects_log("proxy http://a:1 does not answer")
def test_a_proxy_is_to_blame_when_another_one_brings_what_it_did_not() -> None:
    known = routes("http://a:1;http://b:1", proxy_reset_s=300)
    journey = known.journey(DIGEST)
    one = journey.next(hosts(1), 0)
    assert one is not None
    journey.failed(one, failing(), 0)
    assert all(circuit.ok for circuit in known.status(0))  # nobody knows yet
    two = journey.next(hosts(1), 1)
    assert two is not None
    journey.answered(two, 1)
    state = {circuit.address: circuit.ok for circuit in known.status(1)}
    assert state == {"http://h0": True, "http://a:1": False, "http://b:1": True}
    for now, proxy in ((2, "http://b:1"), (300, "http://b:1"), (301, "http://a:1")):
        later = known.journey(DIGEST).next(hosts(1), now)
        assert later is not None
        assert later.proxy == proxy


@pytest.mark.expects_log("repository http://h0 does not answer")
def test_a_repository_is_to_blame_when_two_proxies_fail_with_it() -> None:
    known = routes("http://a:1;http://b:1;http://c:1")
    journey = known.journey(DIGEST)
    for _ in range(2):
        route = journey.next(hosts(2), 0)
        assert route is not None
        assert route.host.url == "http://h0"
        journey.failed(route, failing(), 0)
    assert journey.next(hosts(2), 0) == Route(hosts(2)[1], "http://a:1")
    state = {circuit.address: circuit.ok for circuit in known.status(0)}
    assert not state.pop("http://h0")
    assert all(state.values())


@pytest.mark.expects_log("repository http://h0 does not answer")
@given(st.floats(1, 10_000))
def test_who_asks_to_be_left_alone_is_left_alone_but_not_for_ever(pause_s: float) -> None:
    known = routes("http://a:1;DIRECT")
    journey = known.journey(DIGEST)
    route = journey.next(hosts(2), 0)
    assert route is not None
    journey.failed(route, failing(retry_after_s=pause_s), 0)
    following = journey.next(hosts(2), 0)
    assert following is not None
    assert following.host.url == "http://h1"
    (until,) = [c.next_try_s for c in known.status(0) if c.address == "http://h0"]
    assert until == pytest.approx(min(pause_s, MAX_RETRY_AFTER_S))


@pytest.mark.expects_log("does not answer")
def test_a_considerate_journey_leaves_alone_what_has_just_failed() -> None:
    known = routes()
    journey = known.journey(DIGEST)
    route = journey.next(hosts(1), 0)
    assert route is not None
    journey.failed(route, failing(), 0)
    assert known.journey(DIGEST, considerate=True).next(hosts(1), RECOVERY_S - 0.1) is None
    assert known.journey(DIGEST, considerate=True).next(hosts(1), RECOVERY_S) == route
    assert known.journey(DIGEST, considerate=True).next(hosts(1), RECOVERY_S + 0.1) is None
    assert known.journey(DIGEST).next(hosts(1), RECOVERY_S + 0.1) == route


def test_a_directory_is_asked_without_proxies() -> None:
    known = routes("http://a:1;DIRECT")
    folder = Host("file:///repo", proxied=False)
    journey = known.journey(DIGEST)
    assert journey.next([folder], 0) == Route(folder, None)
    assert journey.next([folder], 0) is None


@given(
    st.integers(1_000, 10_000_000),
    st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0, 2)), min_size=1, max_size=50),
)
def test_a_bucket_holds_its_rate_whatever_the_sizes(
    rate: int, downloads: list[tuple[int, float]]
) -> None:
    bucket, now, taken = TokenBucket(rate, 0.0), 0.0, 0
    for size, pause_s in downloads:
        now += pause_s
        now += bucket.wait_s(now)
        # What was taken before is paid for, but for what may be used at once.
        assert taken <= rate * (now + BURST_S) + 1
        bucket.take(size, now)
        taken += size


def test_a_bucket_without_a_rate_never_waits() -> None:
    bucket = TokenBucket(0, 0.0)
    bucket.take(1 << 40, 0.0)
    assert bucket.wait_s(0.0) == 0
