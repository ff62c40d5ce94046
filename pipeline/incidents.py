"""What is wrong with a lane for as long as it lasts: a handler's circuit is open, a processor stopped itself.

Pure. An incident is a row of the lane's state and so a record on the compacted incidents topic, in the partition of
its lane: written when it begins, a tombstone when it is over. So it survives whoever noticed it, the next owner of
the lane ends it, and whoever reads the topic from its beginning knows what is wrong now. One cause usually shows in
many lanes at once; rows with the same key are one incident then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.contract import Millis, explain
from pipeline.errors import Undecodable

#: What this release writes; `alerter/words.py` has the words for each. The latter four are no lane's: the alerter
#: finds them in the dead letters, and on partitions that somebody added.
Kind = Literal[
    "circuit_open",
    "processor_stopped",
    "unknown_type",
    "letters_flood",
    "letters_waiting",
    "letters_group",
    "records_beyond",
]
#: Those that people should know of, while nothing is broken.
NOTICES: frozenset[str] = frozenset({"unknown_type"})

# What is written is checked by types. What is read may come from a newer release, and is told all the same.
if TYPE_CHECKING:
    AnyKind = Kind
else:
    AnyKind = Annotated[str, Meta(min_length=1, max_length=100)]


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Value of an incident's record.

    kind     one of Kind; of another release also a word that this one does not know
    subject  the handler whose circuit is open, the short reason of the stop: `rejections` or `records_lost`, or the
             provider and its type that nobody knows
    since    ms
    reason   a sentence for people: the last error, or what was counted; without addresses and payloads
    """

    v: Literal[1] = 1
    kind: AnyKind
    subject: Annotated[str, Meta(min_length=1, max_length=200)]
    since: Millis
    reason: Annotated[str, Meta(max_length=1000)] = ""

    @property
    def key(self) -> bytes:
        """Key of its record, the same in every lane."""
        return f"{self.kind}/{self.subject}".encode()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Incident)


def encode(incident: Incident) -> bytes:
    """The record's value: JSON."""
    return _encoder.encode(incident)


def decode(value: bytes) -> Incident:
    """The incident in a record's value. Raises Undecodable naming the field and the reason."""
    try:
        return _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(explain(error)) from None
