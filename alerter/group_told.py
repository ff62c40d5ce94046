"""What people were told of a group of dead letters, and by which channels: a record of the alerts.

Pure. It is written after every alert that tells of the group, and once more when people were told that nothing of it
is open any more; anew with each channel that takes the alert. So a restart, or another alerter, neither repeats nor
forgets. `joined` is commutative and idempotent: in which order records are read does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from alerter.summary import GroupKey
from pipeline.contract import explain
from pipeline.errors import Undecodable

#: What the keys of groups' records begin with.
GROUP = "group/"


class GroupTold(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a record of the alerts: what people were told of a group last; times in seconds since the epoch.

    covered      by partition of the dead letters, the offset up to which they were told of the group's letters
    over         whether they were told since then that no letter of it is open any more
    behind       by channel that has not taken all of this yet, the offsets up to which it has
    over_behind  channels that have not told the end yet

    The latter two are empty in records of former releases, which wrote one when all channels were done.
    """

    v: Literal[1] = 1
    error: str
    type: str
    provider: str
    told_at: float
    quiet_until: float
    covered: dict[int, int]
    over: bool = False
    behind: dict[str, dict[int, int]] = {}
    over_behind: list[str] = []

    @property
    def key(self) -> bytes:
        """Key of the record."""
        return f"{GROUP}{self.group.name}".encode()

    @property
    def group(self) -> GroupKey:
        """The group."""
        return GroupKey(self.error, self.type, self.provider)

    def reached(self, channel: str) -> dict[int, int]:
        """By partition, the offset up to which this channel told of the group's letters."""
        return self.behind.get(channel, self.covered)

    def missed_by(self, partition: int, offset: int) -> frozenset[str]:
        """The channels that have yet to tell of the letter that stands there, though others told of it."""
        return frozenset(name for name, upto in self.behind.items() if upto.get(partition, 0) <= offset)

    def without(self, partition: int) -> GroupTold:
        """The same without what was told by offsets of this partition."""

        def rest(offsets: Mapping[int, int]) -> dict[int, int]:
            return {number: offset for number, offset in offsets.items() if number != partition}

        behind = {name: rest(upto) for name, upto in self.behind.items()}
        return msgspec.structs.replace(self, covered=rest(self.covered), behind=behind)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(GroupTold)


def encode(told: GroupTold) -> bytes:
    """The record's value: JSON."""
    return _encoder.encode(told)


def decode(value: bytes) -> GroupTold:
    """What was told, from a record's value. Raises Undecodable naming the field and the reason."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None


def joined(one: GroupTold | None, other: GroupTold) -> GroupTold:
    """All that two records of a group say: what was told in either was told, by each channel."""
    if one is None:
        return other
    # Of two that tell the same the one that fewer channels miss is the later one.
    later = max(one, other, key=lambda told: (told.told_at, told.over, -len(told.over_behind)))
    covered = furthest(one.covered, other.covered)
    reached = {name: furthest(one.reached(name), other.reached(name)) for name in one.behind.keys() | other.behind}
    behind = {name: upto for name, upto in sorted(reached.items()) if upto != covered}
    return msgspec.structs.replace(later, covered=covered, behind=behind)


def furthest(one: Mapping[int, int], other: Mapping[int, int]) -> dict[int, int]:
    """By partition, the greater of two offsets."""
    return {partition: max(one.get(partition, 0), other.get(partition, 0)) for partition in sorted({*one, *other})}
