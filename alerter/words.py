"""What people read of an incident: a title for its beginning and its end, and what to do.

Pure and total: every kind that this release writes has its words, which a test walks; a kind that only a newer
release knows is told in general words. An incident that nobody here understands is still an incident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.incidents import Incident, Kind


@dataclass(frozen=True, slots=True)
class Words:
    """Of one kind; `{}` in a title is the incident's subject.

    advice  what it means and what to do, None for a kind that people are only told the end of
    """

    begun: str
    over: str
    advice: str | None


WORDS: Mapping[Kind, Words] = {
    "circuit_open": Words(
        "handler {} is down",
        "handler {} answers again",
        "Events go on to be applied; calls of this handler wait, and none becomes a dead letter. What to do: mend "
        "the other side. One call is tried now and then, and when it succeeds all others follow by themselves; "
        "`postlog status` shows how many are owed.",
    ),
    "processor_stopped": Words(
        "a processor stopped itself ({})",
        "processors work again ({})",
        "Nothing more is processed until somebody looks; what is on the log stays there. What to do: the last line "
        "of the processor's log says what it needs; docs/operations.md has each case under `A processor stops`.",
    ),
    "unknown_type": Words(
        "events of a type that nobody knows ({})",
        "a type of events is known now ({})",
        "If it means that somebody must not be mailed, nobody is suppressed by it yet. What to do: look it up in the "
        "provider's documentation. If it matters, say so with `postlog suppressions add` for now, and run a release "
        "that knows the type: `postlog replay` then applies what is on the log already. If it does not matter, there "
        "is nothing to do: each type is told once.",
    ),
    "letters_flood": Words(
        "a flood of dead letters",
        "the flood of dead letters is over",
        "So many have one cause, and it is no letter's. What to do: `postlog dlq list --summary --since 1h`; mend "
        "the cause; `postlog dlq redrive --all --error … --limit 10`, then all of them with `--rate 500`.",
    ),
    "letters_waiting": Words(
        "dead letters wait for too long",
        "no dead letter waits for too long any more",
        "What to do: `postlog dlq list` shows the longest waiting first; then `postlog dlq redrive` once the cause "
        "is mended, or `postlog dlq discard ID --because …`.",
    ),
    "records_beyond": Words(
        "records are where nobody reads them ({})",
        "no records are where nobody reads them any more ({})",
        "Somebody added partitions to the topic, and somebody besides postlog writes to them: none of these records "
        "is applied. What to do: docs/operations.md, `Partitions that somebody added`.",
    ),
    "letters_group": Words("dead letters are open, {}", "no dead letter is open any more, {}", None),
}

_UNKNOWN = "This release does not know what that is. What to do: update the alerter to the release of the processors."


def words(incident: Incident) -> Words:
    """The words for an incident, whatever its kind."""
    kind: str = incident.kind
    if found := WORDS.get(incident.kind):
        return found
    # Formatted with the subject later: a brace in a name is not a place for it.
    name = kind.replace("_", " ").replace("{", "{{").replace("}", "}}")
    return Words(f"something is wrong: {name} ({{}})", f"over: {name} ({{}})", _UNKNOWN)
