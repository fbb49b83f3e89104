"""What configurations and servers may say: every text is read or refused, none is a surprise."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from thinfs.errors import UsageError
from thinfs.fetch.proxies import in_order, parse_proxies
from thinfs.store.credentials import parse_logins
from thinfs.transfer import parse_head, without_password

LINES = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from(
            [b"HTTP/1.1 200 OK\r\n", b"Content-Length: 5\r\n", b"content-length:\r\n", b"\r\n"]
        ),
    ),
    max_size=8,
)
PROXY_TEXT = st.text(alphabet="ahtps:/|;.@DIRECT0123456789 \x00é", max_size=60)


@given(LINES)
def test_any_head_is_an_answer_of_bounded_values(lines: list[bytes]) -> None:
    answer = parse_head(lines)
    assert answer.status == 0 or 100 <= answer.status <= 999
    assert 0 <= answer.length < 10**20
    assert all(name == name.lower().strip() for name in answer.headers)


@given(PROXY_TEXT)
def test_any_list_of_proxies_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        groups = parse_proxies(text)
        proxies = in_order(groups, bytes(32))
        assert sorted(map(str, proxies)) == sorted(str(each) for group in groups for each in group)


@given(st.text(alphabet="abc:/@.", max_size=20), st.text(alphabet="xyz", min_size=1, max_size=9))
def test_no_password_survives(host: str, password: str) -> None:
    shown = without_password(f"http://user:{password}@{host}")
    assert password not in shown


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet='[]"=\n htps:/.abearusnmpwod0', max_size=120).map(str.encode),
    )
)
def test_any_file_of_logins_is_read_or_refused(text: bytes) -> None:
    with contextlib.suppress(UsageError):
        for value in parse_logins(text, "logins.toml").values():
            assert "\n" not in value
            assert "\r" not in value
