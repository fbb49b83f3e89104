"""Who may use the network now."""

from __future__ import annotations

import trio
import trio.testing

from thinfs.fetch.gate import Gate, Priority, Ticket


async def test_the_most_urgent_goes_first_and_equals_in_order() -> None:
    gate, order = Gate(1), []
    inside = trio.Event()

    async def use(name: str, priority: Priority) -> None:
        async with gate.slot(Ticket(priority)):
            order.append(name)
            await inside.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, "first", Priority.DEMAND)
        await trio.testing.wait_all_tasks_blocked()
        for name, priority in (
            ("background", Priority.BACKGROUND),
            ("ahead", Priority.READ_AHEAD),
            ("demand 1", Priority.DEMAND),
            ("demand 2", Priority.DEMAND),
        ):
            nursery.start_soon(use, name, priority)
            await trio.testing.wait_all_tasks_blocked()
        inside.set()
    assert order == ["first", "demand 1", "demand 2", "ahead", "background"]
    assert gate.busy == 0


async def test_less_urgent_downloads_leave_slots_free() -> None:
    gate = Gate(8)
    async with trio.open_nursery() as nursery:

        async def use(priority: Priority) -> None:
            async with gate.slot(Ticket(priority)):
                await trio.sleep_forever()

        async def fill(priority: Priority) -> int:
            for _ in range(10):
                nursery.start_soon(use, priority)
            await trio.testing.wait_all_tasks_blocked()
            return gate.busy

        assert await fill(Priority.BACKGROUND) == 1
        assert await fill(Priority.READ_AHEAD) == 2
        assert await fill(Priority.DEMAND) == 8
        nursery.cancel_scope.cancel()
    assert gate.busy == 0


async def test_a_waiting_ticket_can_become_urgent() -> None:
    gate, order = Gate(1), []
    hold = trio.Event()

    async def use(name: str, ticket: Ticket) -> None:
        async with gate.slot(ticket):
            order.append(name)
            await hold.wait()

    tickets = {name: Ticket(Priority.BACKGROUND) for name in ("holder", "one", "two")}
    async with trio.open_nursery() as nursery:
        for name, ticket in tickets.items():
            nursery.start_soon(use, name, ticket)
            await trio.testing.wait_all_tasks_blocked()
        gate.raise_priority(tickets["two"], Priority.DEMAND)
        gate.raise_priority(tickets["two"], Priority.BACKGROUND)  # never back again
        gate.raise_priority(tickets["holder"], Priority.DEMAND)  # has its slot already
        hold.set()
    assert order == ["holder", "two", "one"]


async def test_who_is_cancelled_while_waiting_takes_no_slot_with_it() -> None:
    gate = Gate(1)
    async with trio.open_nursery() as nursery:

        async def use() -> None:
            async with gate.slot(Ticket(Priority.DEMAND)):
                await trio.sleep_forever()

        nursery.start_soon(use)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as waiting:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            waiting.cancel()
            async with gate.slot(Ticket(Priority.DEMAND)):
                raise AssertionError("there was no slot")
        nursery.cancel_scope.cancel()
    assert gate.busy == 0
    async with gate.slot(Ticket(Priority.DEMAND)):
        assert gate.busy == 1
