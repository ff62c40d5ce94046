"""Every error raised on purpose. A docstring says what the error means to whoever catches it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Kind = TypeVar("Kind", bound=BaseException)


class PostlogError(Exception):
    """Base of all errors below; anything else that escapes is a bug and ends the process."""


class Interrupted(PostlogError):
    """Somebody pressed Ctrl-C. Exit 130; the message says how far it came and that the same again is safe."""


class ConfigError(PostlogError):
    """The environment or a file is wrong. The process refuses to start (exit 2); the message names the cure."""


class TopicsMismatch(ConfigError):
    """The cluster's topics are not what topics.yaml says. Refuse to start (exit 2)."""


class Unanswered(PostlogError):
    """Nobody answered where we asked. Exit 1; a command adds where something runs, if it knows."""


class KafkaUnavailable(Unanswered):
    """Kafka did not answer in time. Exit 1: whoever supervises starts us again."""


class KafkaRefused(ConfigError):
    """Kafka and we do not trust each other, or it does not let us do what we need. Refuse to start (exit 2).

    The message names what was refused, by whom, and the setting or the ACL that mends it.
    """


class KafkaTooOld(ConfigError):
    """The brokers lack something that the promise needs. Refuse to start (exit 2)."""


class BadSignature(PostlogError):
    """Not authentic. Answer 401; nothing of the delivery may reach Kafka but the count."""


class StaleDelivery(BadSignature):
    """Signed by us once, but too long ago: somebody may be replaying it. Answer 401."""


class Unreadable(PostlogError):
    """Authentic, but not what the provider's reader understands. Dead letter and 200: a retry cannot mend it."""


class NoRoom(PostlogError):
    """So many large bodies come at once that there was none for this one in time. Ask the sender to try again."""


class TooManyEvents(PostlogError):
    """Authentic, but one delivery of more events than are taken at once. Answer 413 before anything of it is kept."""


class Undecodable(PostlogError):
    """A record on our own topic that the contract cannot decode. Dead letter."""


class NoRecipient(PostlogError):
    """The event names no address we could mail, so nothing can be suppressed. Dead letter."""


class LetterRefused(PostlogError):
    """A dead letter cannot be sent round again as it is. It stays as it was; the message says why."""


class OffsetGap(PostlogError):
    """Records between two offsets never reached the lane. Stop: redelivery from the committed offset repairs it."""


class RecordsLost(PostlogError):
    """The log and the committed offset contradict each other, so records may be gone that nobody processed.

    Stop: only an operator may accept that.
    """


class StateLost(RecordsLost):
    """A local copy of the state knows more than its changelogs do. Stop, and keep the copy: it can be written back.

    noted  keys of the incidents that the log has, as far as that was looked at
    """

    def __init__(self, message: str, noted: Iterable[bytes] = ()) -> None:
        super().__init__(message)
        self.noted = frozenset(noted)


class ForeignOffset(PostlogError):
    """The committed offset carries something that postlog did not write. Stop: only an operator may know what for."""


class HangingTransaction(PostlogError):
    """Kafka ended a transaction without marking its end on a partition, and hides all that comes after it.

    Stop: what would be read is not all that was committed. Only an operator can end it.
    """


class TooManyRejections(PostlogError):
    """Most of the latest records would become dead letters: it is not they that are wrong. Stop; all are kept."""


class StaleStore(PostlogError):
    """A local store is of another log, or misses deletions that were compacted away. Discard it, restore anew."""


class StoreBroken(PostlogError):
    """The local store cannot be read or written. Stop; it is discarded, and the changelogs bring it back."""


class StoreLocked(PostlogError):
    """Another process has this local store open. Exit 1: the former owner may be about to end."""


class LaneClosed(PostlogError):
    """A batch was handed to a lane that is not open: a bug. Stop."""


class Fenced(PostlogError):
    """Another processor owns one of our lanes: we were silent for too long. Exit 1; it has lost nothing."""


class LanesFailed(PostlogError):
    """A lane or the consumer under it stopped; nothing of the batch in hand is committed. Exit 1, start again."""


class BrokerStartFailed(PostlogError):
    """No way to a Kafka broker is open; the message names all three and what stopped each."""


def among(error: BaseException, kind: type[Kind]) -> Kind | None:
    """The first error of a kind where several tasks failed together; the error itself if it is one."""
    if isinstance(error, kind):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, (among(each, kind) for each in error.exceptions)), None)
    return None
