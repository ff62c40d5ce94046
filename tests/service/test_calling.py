"""Making owed calls, on a real store: order within an address, none held up by another, and what a crash leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pipeline import contract, suppression
from pipeline.contract import Event
from pipeline.errors import StoreBroken
from pipeline.suppression import Facts, Suppression
from processor import calls, circuit
from processor.calling import Calling
from processor.calls import Call
from processor.handler import Handler, Outage, Retry, TryLater
from processor.store import Store, open_store
from tests.unit.records import NOON, event, record

QUICK = Retry(tries=3, base=0.001)
LIMIT = 10.0

Handle = Callable[[Event, Suppression | None], Awaitable[None]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "lane-0")
    yield opened
    opened.close()


class Lane:
    """Commits outcomes to the store as a lane does; `given_up` holds what became a dead letter."""

    def __init__(self, store: Store, handle: Handle, **how: float | Retry | Outage) -> None:
        self.store = store
        self.handlers = {"h": Handler("h", handle, **{"retry": QUICK, **how})}  # type: ignore[arg-type]
        self.wake = asyncio.Event()
        self.circuits = circuit.of(self.handlers)
        self.calling = Calling(self.handlers, self.circuits, store, self.wake.set)
        self.given_up: list[Call] = []

    def owe(self, *events: Event) -> None:
        for offset, made in enumerate(events):
            (call,) = calls.owed(made, record(offset, made), {made.type: ("h",)})
            self.store.write({"calls": [(call.row, calls.encode(call))]}, {})
            self.calling.add(call.row)

    async def commit(self) -> None:
        """Wait for outcomes and commit them."""
        await asyncio.wait_for(self.wake.wait(), LIMIT)
        self.wake.clear()
        settled = calls.settle(
            self.calling.outcomes(), self.handlers, now=int(time.time() * 1000), chance=lambda: 0.0
        )
        self.store.write({"calls": settled.rows.items()}, {})
        self.given_up += [used_up.call for used_up in settled.dead]
        self.calling.settle(settled)

    async def until_nothing_is_owed(self) -> None:
        while self.calling.owed:
            await self.commit()


def of(email: str, number: int = 0) -> Event:
    return event(email, id=f"{email}-{number}")


async def test_the_calls_of_an_address_are_made_in_the_order_of_the_log(store: Store) -> None:
    made: list[str] = []

    async def handle(event: Event, _: Suppression | None) -> None:
        await asyncio.sleep(0)
        made.append(event.id)

    lane = Lane(store, handle)
    lane.owe(*[of("a@x.io", n) for n in range(20)])
    await lane.until_nothing_is_owed()
    assert made == [f"a@x.io-{n}" for n in range(20)]
    assert not list(store.rows("calls"))


async def test_addresses_are_called_at_once_up_to_the_concurrency(store: Store) -> None:
    under_way, most, full = 0, 0, asyncio.Event()

    async def handle(*_: object) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 4:
            full.set()
        await full.wait()
        under_way -= 1

    lane = Lane(store, handle, concurrency=4)
    lane.owe(*[of(f"{n}@x.io") for n in range(12)])
    await lane.until_nothing_is_owed()
    assert most == 4


async def test_while_it_is_paused_calls_under_way_end_and_no_other_begins(store: Store) -> None:
    made: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(event: Event, _: Suppression | None) -> None:
        made.append(event.id)
        begun.set()
        await go_on.wait()

    lane = Lane(store, handle, concurrency=1)
    lane.owe(of("a@x.io", 0), of("a@x.io", 1), of("b@x.io", 0))
    await asyncio.wait_for(begun.wait(), LIMIT)
    lane.calling.pause()
    go_on.set()
    await lane.commit()
    await asyncio.sleep(0.05)  # nothing to wait for: nothing may happen
    assert (made, lane.calling.owed) == (["a@x.io-0"], 2)
    lane.calling.resume()
    await lane.until_nothing_is_owed()
    assert sorted(made) == ["a@x.io-0", "a@x.io-1", "b@x.io-0"]


async def test_a_failing_call_holds_back_its_own_address_and_no_other(store: Store) -> None:
    made: list[str] = []

    async def handle(event: Event, _: Suppression | None) -> None:
        made.append(event.id)
        if event.id == "bad@x.io-0":
            raise OSError("down")

    lane = Lane(store, handle)
    lane.owe(of("bad@x.io", 0), of("bad@x.io", 1), of("good@x.io", 0))
    await lane.until_nothing_is_owed()
    assert [i for i in made if i.startswith("bad")] == ["bad@x.io-0"] * 3 + ["bad@x.io-1"]
    assert made.index("good@x.io-0") < 3
    assert [call.tries for call in lane.given_up] == [2]


async def test_a_call_that_takes_too_long_has_failed(store: Store) -> None:
    async def handle(*_: object) -> None:
        await asyncio.Event().wait()

    lane = Lane(store, handle, timeout=0.01)
    lane.owe(of("a@x.io"))
    await lane.until_nothing_is_owed()
    assert len(lane.given_up) == 1


async def test_a_handler_that_cancels_itself_has_failed(store: Store) -> None:
    async def handle(*_: object) -> None:
        raise asyncio.CancelledError

    lane = Lane(store, handle)
    lane.owe(of("a@x.io"))
    await lane.until_nothing_is_owed()
    assert len(lane.given_up) == 1


async def test_a_handler_that_asks_for_time_gets_it(store: Store) -> None:
    times: list[float] = []

    async def handle(*_: object) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise TryLater(0.2)

    lane = Lane(store, handle)
    lane.owe(of("a@x.io"))
    await lane.until_nothing_is_owed()
    assert times[1] - times[0] >= 0.19


async def test_the_handler_gets_the_suppression_as_it_is_now(store: Store) -> None:
    entry = Suppression.of("a@x.io", Facts(hard_bounce=suppression.Span(NOON, NOON)))
    store.write({"suppressions": [(b"a@x.io", suppression.encode(entry))]}, {})
    given: list[Suppression | None] = []

    async def handle(_: Event, present: Suppression | None) -> None:
        given.append(present)

    lane = Lane(store, handle)
    lane.owe(of("a@x.io"), of("b@x.io"))
    await lane.until_nothing_is_owed()
    assert given == [entry, None]


async def test_the_count_of_tries_survives_a_new_owner_who_makes_what_was_not_committed_again(store: Store) -> None:
    made: list[str] = []

    async def handle(event: Event, _: Suppression | None) -> None:
        made.append(event.id)
        raise OSError("down")

    first = Lane(store, handle)
    first.owe(of("a@x.io"))
    await first.commit()  # one try is committed
    await asyncio.wait_for(first.wake.wait(), LIMIT)  # another one is not
    await first.calling.close()
    second = Lane(store, handle)
    second.calling.load()
    await second.until_nothing_is_owed()
    assert len(made) == 4
    assert len(second.given_up) == 1


async def test_draining_finishes_what_is_under_way_and_begins_nothing(store: Store) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    made: list[str] = []

    async def handle(event: Event, _: Suppression | None) -> None:
        begun.set()
        await go.wait()
        made.append(event.id)

    lane = Lane(store, handle, concurrency=1)
    lane.owe(of("a@x.io", 0), of("a@x.io", 1), of("b@x.io"))
    await begun.wait()
    draining = asyncio.create_task(lane.calling.drain(LIMIT))
    await asyncio.sleep(0)
    go.set()
    await draining
    await lane.commit()
    await lane.calling.close()
    assert made == ["a@x.io-0"]
    assert len(list(store.rows("calls"))) == 2


async def test_calls_of_a_handler_that_is_not_configured_are_kept(store: Store) -> None:
    async def handle(*_: object) -> None: ...

    Lane(store, handle).owe(of("a@x.io"))
    stranger = Calling({}, {}, store, lambda: None)
    stranger.load()
    assert stranger.owed == 0
    assert len(list(store.rows("calls"))) == 1


async def test_a_replay_that_is_owed_still_goes_into_its_place_behind_the_first(store: Store) -> None:
    async def handle(*_: object) -> None: ...

    lane = Lane(store, handle)
    rows = [calls.owed(of("a@x.io"), record(n, of("a@x.io")), {of("a").type: ("h",)}) for n in (5, 9, 3, 7)]
    for (call,) in rows:
        lane.store.write({"calls": [(call.row, calls.encode(call))]}, {})
        lane.calling.add(call.row)
        assert lane.calling.owes(call.row)
    order = []
    while lane.calling.owed:
        before = {call.offset for _, value in store.rows("calls") for call in [calls.decode(value)]}
        await lane.commit()
        order += sorted(before - {calls.decode(value).offset for _, value in store.rows("calls")})
    assert order == [5, 3, 7, 9]


async def test_what_makes_calling_itself_fail_is_raised(store: Store) -> None:
    async def handle(*_: object) -> None: ...

    lane = Lane(store, handle)
    lane.calling.add(b"h\0a@x.io\0" + bytes(8))  # no such row
    with pytest.raises(StoreBroken):
        await lane.commit()


def test_the_record_in_an_owed_call_is_an_event() -> None:
    (call,) = calls.owed(of("a@x.io"), record(0, of("a@x.io")), {of("a").type: ("h",)})
    assert contract.decode(call.value) == of("a@x.io")


DOWN = Outage(minimum=3, base=0.01, cap=0.02)


async def test_an_outage_costs_no_try_and_its_calls_are_made_in_order_when_it_is_over(store: Store) -> None:
    up, probes = False, 0
    made: list[str] = []

    async def handle(event: Event, _: Suppression | None) -> None:
        nonlocal probes
        if not up:
            probes += lane.circuits["h"].is_open
            raise OSError("down, also for o'ann%40x.io")
        made.append(event.id)

    lane = Lane(store, handle, retry=Retry(tries=2, base=0.001), outage=DOWN)
    lane.owe(*[of(f"{address}@x.io", n) for n in range(3) for address in range(10)])
    while probes < 8:
        await lane.commit()
    assert lane.circuits["h"].is_open
    assert lane.circuits["h"].reason == "OSError: down, also for …%40x.io"
    assert lane.calling.owed == 30
    assert not lane.given_up
    up = True
    await lane.until_nothing_is_owed()
    assert not lane.circuits["h"].is_open
    for address in range(10):
        assert [name for name in made if name.startswith(f"{address}@")] == [f"{address}@x.io-{n}" for n in range(3)]
    assert not lane.given_up
    assert not list(store.rows("calls"))


async def test_one_event_that_fails_for_good_does_not_keep_a_circuit_open(store: Store) -> None:
    up = False

    async def handle(event: Event, _: Suppression | None) -> None:
        if not up or event.email == "bad@x.io":
            raise OSError("down")

    lane = Lane(store, handle, outage=DOWN)
    lane.owe(of("bad@x.io"), *[of(f"{n}@x.io") for n in range(5)])
    while not lane.circuits["h"].is_open:
        await lane.commit()
    up = True
    await lane.until_nothing_is_owed()
    assert [call.email for call in lane.given_up] == ["bad@x.io"]


async def test_lanes_share_a_circuit_and_the_others_take_over_a_probe_of_one_that_is_given_up(tmp_path: Path) -> None:
    begun, up = asyncio.Event(), False

    async def handle(*_: object) -> None:
        if up:
            return
        if lanes[0].circuits["h"].is_open:
            begun.set()
            await asyncio.Event().wait()
        raise OSError("down")

    stores = [open_store(tmp_path / f"lane-{n}") for n in range(2)]
    lanes = [Lane(store, handle, outage=DOWN) for store in stores]
    circuits = lanes[0].circuits
    lanes[1].calling = Calling(lanes[1].handlers, circuits, stores[1], lanes[1].wake.set)
    try:
        lanes[0].owe(*[of(f"{n}@x.io") for n in range(3)])
        await asyncio.wait_for(begun.wait(), LIMIT)
        lanes[1].owe(of("z@x.io"))
        await lanes[0].calling.close()
        begun.clear()
        await asyncio.wait_for(begun.wait(), LIMIT)  # the probe of the other lane
        await lanes[1].calling.close()
        assert circuits["h"].is_open
        assert circuits["h"].probe_in(time.monotonic()) is not None
    finally:
        for store in stores:
            store.close()
