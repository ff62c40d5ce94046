"""Which letter a record of the dead-letter topic is of, and what people did about it.

Pure. What always holds: a letter keeps its name however often it is sent round again and fails, because the name is
the place where its event first stood in the log; and whether it is open depends on places in the log alone, never on
whose clock is ahead: an action answers the failure that whoever acted saw, and a later failure reopens the letter. A
letter that was discarded stays so if it only fails again for reasons that were known then; see docs/decisions/0035.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.contract import Millis, explain
from pipeline.deadletter import DeadLetter
from pipeline.errors import Undecodable

Standing = Literal["open", "redriven", "discarded"]

#: How an identity looks; see `identity`.
ID = re.compile(r"i?[0-9]{1,10}-[0-9]{1,19}")
#: Actions that a letter's history keeps, the latest ones: its record must not grow for ever.
MOST_ACTIONS = 50


class Place(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """Where a record stands on the dead-letter topic."""

    partition: int
    offset: int


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One time that a letter failed: where its dead letter stands, and a number that stands for why."""

    place: Place
    reason: int


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did about a letter.

    at       their clock, ms; to be shown, never to be compared
    because  the reason they gave, "" if none
    answers  the letter's latest failure that they knew of
    """

    did: Literal["redriven", "discarded"]
    at: Millis
    who: str
    because: str = ""
    answers: Place


class LetterState(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a record of the letter states; its key is the letter's id. Of the actions the last one counts."""

    v: Literal[1] = 1
    id: str
    redrives: Annotated[int, Meta(ge=0)] = 0
    actions: Annotated[list[Action], Meta(min_length=1)]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LetterState)


def encode(state: LetterState) -> bytes:
    """The record's value: JSON."""
    return _encoder.encode(state)


def decode(value: bytes) -> LetterState:
    """The state in a record's value. Raises Undecodable naming the field and the reason."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None


def identity(letter: DeadLetter, place: Place) -> str:
    """The letter's name: `<partition>-<offset>` where its event first stood.

    A delivery that never became a record has no such place; it is named `i<partition>-<offset>` after the dead letter
    itself, which stays its only one.
    """
    if letter.origin is None:
        return f"i{place.partition}-{place.offset}"
    partition, position = letter.origin
    return f"{partition}-{position.offset}"


def failure(letter: DeadLetter, place: Place) -> Failure:
    """The failure that a dead letter tells of; two have one reason if error, handler and message are the same."""
    why = "\0".join((letter.error, letter.handler, letter.message)).encode(errors="replace")
    return Failure(place, int.from_bytes(blake2b(why, digest_size=8).digest()))


def standing(failures: Sequence[Failure], state: LetterState | None) -> Standing:
    """Whether somebody has to look at a letter with these failures, the latest one last; at least one."""
    if state is None:
        return "open"
    last = state.actions[-1]
    if last.answers == failures[-1].place:
        return last.did
    return "discarded" if last.did == "discarded" and _tells_nothing_new(failures, last.answers) else "open"


def _tells_nothing_new(failures: Sequence[Failure], answered: Place) -> bool:
    """Whether all failures after the one that was answered have reasons that were known by then."""
    known: set[int] = set()
    for number, found in enumerate(failures, start=1):
        known.add(found.reason)
        if found.place == answered:
            return all(later.reason in known for later in failures[number:])
    return False


def acted(identity: str, state: LetterState | None, action: Action, *, redrives: int) -> LetterState:
    """The state after an action; redrives counts all there were, this one included."""
    before = [] if state is None else state.actions
    return LetterState(id=identity, redrives=redrives, actions=[*before, action][-MOST_ACTIONS:])
