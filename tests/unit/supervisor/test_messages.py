"""What supervisor and worker say to each other, over a real pair of sockets."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from thinfs.errors import StoreError
from thinfs.supervisor.messages import (
    Alive,
    Channel,
    Closed,
    Failed,
    Go,
    Handover,
    Leave,
    News,
    Serving,
    Stop,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDOVER = Handover(
    number=2,
    supervisor=1,
    mountpoint="/run/x",
    state="/var/x",
    mounted_ns=5,
    init=b"\x68\0\0\0",
    answered=b"\xff",
    locks=(7, 8),
)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(end) for end in pair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_come_one_by_one_and_as_they_were(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    for order in (HANDOVER, Go(), News(1, "why"), Leave(0.5)):
        assert ours.tell(order)
        assert theirs.hear_order() == (order, [])
    theirs.tell(Serving(b"\0\x01"))
    theirs.tell(Alive())
    assert ours.hear_word() == (Serving(b"\0\x01"), [])
    assert ours.hear_word() == (Alive(), [])


def test_nothing_to_hear_is_not_waited_for(ends: tuple[Channel, Channel]) -> None:
    with pytest.raises(BlockingIOError):
        ends[0].hear_word()


def test_descriptors_travel_along_and_children_do_not_get_them(
    ends: tuple[Channel, Channel],
) -> None:
    reading, writing = os.pipe()
    ends[0].tell(HANDOVER, (reading, writing))
    _, descriptors = ends[1].hear_order()
    os.write(descriptors[1], b"x")
    assert os.read(reading, 1) == b"x"
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    for descriptor in (reading, writing, *descriptors):
        os.close(descriptor)


def test_the_end_of_the_other_side_is_heard(ends: tuple[Channel, Channel]) -> None:
    ends[1].tell(Alive())
    ends[1].close()
    assert ends[0].hear_word() == (Alive(), [])
    with pytest.raises(Closed):
        ends[0].hear_word()
    assert not ends[0].tell(Go())


def test_a_worker_that_does_not_listen_stops_nobody(ends: tuple[Channel, Channel]) -> None:
    assert not all(ends[0].tell(News(number, "x" * 1000)) for number in range(10_000))


def test_another_version_is_an_error_of_its_own(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = pair()
    with ours, Channel(theirs) as channel:
        ours.send(b'{"type":"Sing"}')
        with pytest.raises(StoreError, match="another version"):
            channel.hear_order()
        ours.send(b'{"type":"Go","later":1}')
        assert channel.hear_order() == (Go(), [])


def test_garbage_is_an_error_too() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, Channel(theirs) as channel:
        ours.send(b"\xff\xfe")
        with pytest.raises(StoreError, match="another version"):
            channel.hear_word()


def test_last_words_are_heard_of_a_side_that_closed_without_hearing() -> None:
    ours, theirs = (Channel(end) for end in pair())
    with ours:
        assert ours.tell(Stop())
        assert theirs.tell(Failed("UsageError", "no such field"))
        theirs.close()
        assert ours.hear_word()[0] == Failed("UsageError", "no such field")
        with pytest.raises(Closed):
            ours.hear_word()
