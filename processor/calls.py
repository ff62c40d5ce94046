"""Which calls of handlers a lane owes, and what follows from how one went.

Pure. A call is owed from the transaction that applied its event on, until the transaction that holds its outcome: so
no crash loses one, none restarts its count, and the partition never waits for a handler. Calls of one handler for one
address are made in the order of the log; the first one that fails holds back those behind it.
See docs/decisions/0008.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pipeline.contract import Event, EventType, Record, explain
from pipeline.errors import Undecodable
from processor.handler import Handler, Permanent, Retry, TryLater

#: Which handlers want which type, by name.
Wanted = Mapping[EventType, tuple[str, ...]]

_encode = msgspec.msgpack.Encoder().encode


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An owed call, as the changelog keeps it: the record that it is for, and what was tried.

    offset         of the record on the events topic, which also orders the calls
    timestamp      of that record, ms
    tries          how often it failed
    due            not before this time, ms
    first_failure  ms; None if it never failed
    """

    handler: str
    email: str
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    tries: int = 0
    due: int = 0
    first_failure: int | None = None

    @property
    def row(self) -> bytes:
        """Its key in the store and the changelog: sorted by handler, address and offset."""
        return f"{self.handler}\0{self.email}\0".encode() + self.offset.to_bytes(8, "big")


_decoder = msgspec.msgpack.Decoder(Call)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try went; error None is success."""

    call: Call
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Dead:
    """No try is left: the record becomes a dead letter. first_failure in ms."""

    tries: int
    first_failure: int


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A call that is given up, and why."""

    call: Call
    error: Exception
    dead: Dead


@dataclass(slots=True)
class Settled:
    """What follows from some outcomes.

    rows      values to write by row, None where nothing is owed any more
    due       when each row is tried again, ms; None where it is not
    outcomes  (handler, how it went), to be counted
    """

    rows: dict[bytes, bytes | None] = field(default_factory=dict)
    due: dict[bytes, int | None] = field(default_factory=dict)
    dead: list[UsedUp] = field(default_factory=list)
    outcomes: list[tuple[str, Literal["done", "failed", "given_up"]]] = field(default_factory=list)


def line_of(row: bytes) -> bytes:
    """What all calls of one handler for one address begin with; these are made one after the other."""
    return row[:-8]


def handler_of(row: bytes) -> str:
    """The handler's name in a row's key, or in a line's."""
    return row.split(b"\0", 1)[0].decode()


def encode(call: Call) -> bytes:
    """The row's value."""
    return _encode(call)


def decode(value: bytes) -> Call:
    """The call in a row's value. Raises Undecodable naming the field and the reason."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None


def wanted(handlers: Mapping[str, Handler]) -> Wanted:
    """Which of these handlers want which type."""
    by_type = {kind: tuple(name for name, h in handlers.items() if kind in h.types) for kind in EventType}
    return {kind: names for kind, names in by_type.items() if names}


def owed(event: Event, record: Record, wanted: Wanted) -> Iterable[Call]:
    """The calls that an event makes us owe."""
    for name in wanted.get(event.type, ()):
        yield Call(
            handler=name,
            email=event.email or "",
            offset=record.offset,
            timestamp=record.timestamp,
            key=record.key,
            value=record.value or b"",
            headers=list(record.headers),
        )


def after(call: Call, error: Exception | None, retry: Retry, *, now: int, chance: float) -> Call | Dead | None:
    """What is owed after a try that ended with this error, or None for success.

    now     ms
    chance  between 0 and 1, for the jitter
    """
    if error is None:
        return None
    tries = call.tries + 1
    first = now if call.first_failure is None else call.first_failure
    if isinstance(error, Permanent) or tries >= retry.tries:
        return Dead(tries, first)
    pause = retry.pause(tries, chance)
    if isinstance(error, TryLater):
        pause = max(pause, error.seconds)
    return msgspec.structs.replace(call, tries=tries, first_failure=first, due=now + round(pause * 1000))


def settle(
    outcomes: Iterable[Outcome], handlers: Mapping[str, Handler], *, now: int, chance: Callable[[], float]
) -> Settled:
    """What to commit for these outcomes; now in ms, chance() between 0 and 1."""
    settled = Settled()
    for outcome in outcomes:
        call, error = outcome.call, outcome.error
        match after(call, error, handlers[call.handler].retry, now=now, chance=chance()):
            case Call() as again:
                settled.rows[call.row], settled.due[call.row] = encode(again), again.due
                settled.outcomes.append((call.handler, "failed"))
            case Dead() as dead if error is not None:
                settled.rows[call.row] = settled.due[call.row] = None
                settled.dead.append(UsedUp(call, error, dead))
                settled.outcomes.append((call.handler, "given_up"))
            case _:
                settled.rows[call.row] = settled.due[call.row] = None
                settled.outcomes.append((call.handler, "done"))
    return settled
