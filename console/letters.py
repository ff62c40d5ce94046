"""Which letters there are, which of them are meant, and which may be acted upon.

Pure. dead_letters.py reads them from Kafka, redrives.py makes records of them again. An index keeps of every letter
what a list shows, never its payload: the number of letters is bounded by nothing but the topic's retention.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from pipeline import deadletter, letters, masking
from pipeline.contract import Record
from pipeline.errors import Undecodable
from pipeline.letters import Failure, LetterState, Place, Standing

#: A letter that came back this often comes back again, unless something was mended meanwhile.
MOST_REDRIVES = 3
#: Characters of an error's message that a list shows.
LONGEST_REASON = 160


class Letter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One letter with all its failures.

    failures       where they stand on the dead-letter topic, and why, the latest one last
    reason         the latest error's message, masked and cut
    redrives       how often the record that failed last had been sent round again, as it says itself
    first_failure  ms
    """

    id: str
    stage: str
    type: str
    provider: str
    error: str
    reason: str
    redrives: int
    first_failure: int
    last_failure: int
    failures: tuple[Failure, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Where its failures stand, the latest one last."""
        return tuple(failure.place for failure in self.failures)

    @property
    def latest(self) -> Place:
        """Where its latest failure stands."""
        return self.failures[-1].place


@dataclass(slots=True)
class Index:
    """All letters by id, and what people did about them: values of the letter states, undecoded, by id."""

    letters: dict[str, Letter] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)

    def add(self, record: Record, partition: int) -> None:
        """Fold a record of the dead-letter topic in; those of one partition come in order."""
        found = letter_of(record, partition)
        known = self.letters.get(found.id)
        self.letters[found.id] = found if known is None else _folded(known, found)

    def state(self, letter: Letter) -> LetterState | None:
        """What people did about it. Raises Undecodable."""
        value = self.states.get(letter.id)
        try:
            return None if value is None else letters.decode(value)
        except Undecodable as error:
            raise Undecodable(
                f"the state of letter {letter.id}: {error}. Was it written by a newer postlog?"
            ) from None

    def standing(self, letter: Letter) -> Standing:
        """Whether it is open. Raises Undecodable."""
        return letters.standing(letter.failures, self.state(letter))

    def redrives(self, letter: Letter) -> int:
        """How often it was sent round again.

        The record tells it even if whoever sent it died before noting it, the state even if it has not failed again.
        """
        state = self.state(letter)
        return max(letter.redrives, state.redrives if state else 0)


def letter_of(record: Record, partition: int) -> Letter:
    """The letter that this record of the dead-letter topic tells of, as if it were its only failure."""
    read = deadletter.read(record)
    place = Place(partition, record.offset)
    # Thousands of letters share a few words; interned, they share them in memory too.
    headers = (masking.text(header) for header in (read.type, read.provider, read.error))
    kind, provider, error = (sys.intern(header) for header in headers)
    return Letter(
        id=letters.identity(read, place),
        stage=read.stage,
        type=kind,
        provider=provider,
        error=error,
        reason=sys.intern(masking.cut(read.message, LONGEST_REASON)),
        redrives=read.redrives,
        first_failure=read.first_failure,
        last_failure=read.last_failure,
        failures=(letters.failure(read, place),),
    )


def _folded(known: Letter, found: Letter) -> Letter:
    return msgspec.structs.replace(
        found,
        first_failure=min(known.first_failure, found.first_failure),
        redrives=max(known.redrives, found.redrives),
        failures=(*known.failures, *found.failures),
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; None means any. error may be the whole name or its last part; since and until are of
    the latest failure, in ms, until not included."""

    type: str | None = None
    provider: str | None = None
    error: str | None = None
    since: int | None = None
    until: int | None = None
    state: Standing | None = None

    def matches(self, letter: Letter, standing: Standing) -> bool:
        """Whether this letter is meant."""
        return (
            self.type in (None, letter.type)
            and self.provider in (None, letter.provider)
            and self.error in (None, letter.error, short(letter.error))
            and (self.since is None or letter.last_failure >= self.since)
            and (self.until is None or letter.last_failure < self.until)
            and self.state in (None, standing)
        )


def short(error: str) -> str:
    """An error's name without its package."""
    return error.rpartition(".")[2]


def select(index: Index, wanted: Wanted) -> list[Letter]:
    """The letters that are meant, the longest waiting first. Raises Undecodable."""
    found = [each for each in index.letters.values() if wanted.matches(each, index.standing(each))]
    return sorted(found, key=lambda each: (each.last_failure, each.latest))


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Letters of one error, type and provider, counted; first and last failure in ms; example is an id."""

    error: str
    type: str
    provider: str
    count: int
    first: int
    last: int
    example: str


def groups(found: Iterable[Letter]) -> list[Group]:
    """The letters counted by what they have in common, the largest group first."""
    by_key: dict[tuple[str, str, str], list[Letter]] = {}
    for each in found:
        by_key.setdefault((short(each.error), each.type, each.provider), []).append(each)
    counted = [
        Group(
            error=error,
            type=kind,
            provider=provider,
            count=len(same),
            first=min(each.first_failure for each in same),
            last=max(each.last_failure for each in same),
            example=same[-1].id,
        )
        for (error, kind, provider), same in by_key.items()
    ]
    return sorted(counted, key=lambda group: (-group.count, group.error, group.type, group.provider))


class Refused(msgspec.Struct, frozen=True):
    """A letter that was not acted upon, and why."""

    id: str
    reason: str


def may_redrive(index: Index, letter: Letter, *, force: bool) -> str | None:
    """Why this letter must not be sent round again, None if it may."""
    if force:
        return None
    if index.standing(letter) == "discarded":
        return "it was discarded (postlog dlq show says why); --force sends it all the same"
    if (times := index.redrives(letter)) >= MOST_REDRIVES:
        return f"it was sent round {times} times already; mend the cause, then --force sends it once more"
    return None


def may_discard(index: Index, letter: Letter) -> str | None:
    """Why there is nothing to discard, None if there is."""
    now = index.standing(letter)
    return None if now == "open" else f"it is not open but {now}"


def named(index: Index, ids: Iterable[str]) -> Iterator[Letter | Refused]:
    """The letters with these ids, each once, in the order given."""
    for identity in dict.fromkeys(ids):
        yield index.letters.get(identity) or Refused(identity, "no letter has this id; it may have expired")


def partitions(found: Mapping[Place, object]) -> dict[int, list[int]]:
    """Offsets by partition, both in order."""
    ordered: dict[int, list[int]] = {}
    for place in sorted(found):
        ordered.setdefault(place.partition, []).append(place.offset)
    return ordered
