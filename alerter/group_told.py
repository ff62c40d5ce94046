"""What people were told of a group of dead letters: a record of the alerts.

Pure. It is written after every alert that tells of the group, and once more when people were told that nothing of it
is open any more. So a restart, or another alerter, neither repeats nor forgets.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from alerter.summary import GroupKey
from pipeline.contract import explain
from pipeline.errors import Undecodable

#: What the keys of groups' records begin with.
GROUP = "group/"


class GroupTold(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a record of the alerts: what people were told of a group last; times in seconds since the epoch.

    covered  by partition of the dead letters, the offset up to which they were told of the group's letters
    over     whether they were told since then that no letter of it is open any more
    """

    v: Literal[1] = 1
    error: str
    type: str
    provider: str
    told_at: float
    quiet_until: float
    covered: dict[int, int]
    over: bool = False

    @property
    def key(self) -> bytes:
        """Key of the record."""
        return f"{GROUP}{self.type}/{self.provider}/{self.error}".encode()

    @property
    def group(self) -> GroupKey:
        """The group."""
        return GroupKey(self.error, self.type, self.provider)


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
