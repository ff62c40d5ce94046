"""What each of us must be allowed to do on a cluster that asks: Kafka's ACLs, and nothing that could be left out.

Pure. Reading and writing comes from topics.yaml, groups and transactional ids from their names. Left out is what
Kafka takes for granted: whoever may read or write a topic may describe it, whoever may write any topic may be an
idempotent producer.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from pipeline.topics import Service, Topics

#: Who connects: the services, and people's commands by what they do. Each is a user of its own.
#: console  dlq, suppressions, topics check · replay  replay, also with --rebuild · topics  topics apply
User = Literal["ingress", "processor", "alerter", "lookup", "console", "replay", "topics"]
USERS: tuple[User, ...] = get_args(User)
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs", "AlterConfigs"]
Resource = Literal["topic", "group", "transactional-id"]


class Acl(msgspec.Struct, frozen=True, order=True):
    """One user may do one thing to a resource; prefixed: to all whose names begin so."""

    user: User
    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False


def needed(topics: Topics, groups: Mapping[Service, str]) -> list[Acl]:
    """Everything that everybody must be allowed, sorted by user.

    groups  the consumer groups by service
    """
    found: set[Acl] = set()
    for user in USERS:
        found |= set(_topics(user, topics))
    found |= {Acl(service, "group", name, "Read") for service, name in groups.items()}
    # Of a lane each, named by kafka.lane_id. A replay fences them, and a rebuild writes as their owner.
    lanes = f"{groups['processor']}-"
    workers: tuple[User, User] = ("processor", "replay")
    found |= {Acl(user, "transactional-id", lanes, "Write", prefixed=True) for user in workers}
    # It commits where the processors go on.
    found.add(Acl("replay", "group", groups["processor"], "Read"))
    return sorted(found, key=lambda acl: (USERS.index(acl.user), acl.resource, acl.name, acl.operation))


def _topics(user: User, topics: Topics) -> Iterator[Acl]:
    # Everybody compares all topics with topics.yaml before anything else.
    rebuilt = (topics.seen, topics.suppressions) if user == "replay" else ()
    for topic in topics.all():
        reads = user in topic.readers or topic in rebuilt or (user == "replay" and topic == topics.events)
        # A rebuild tells the log again what stood under former keys.
        writes = user in topic.writers or topic in rebuilt or (user == "replay" and topic == topics.events)
        if reads:
            yield Acl(user, "topic", topic.name, "Read")
        if writes:
            yield Acl(user, "topic", topic.name, "Write")
        if not reads and not writes:
            yield Acl(user, "topic", topic.name, "Describe")
        yield Acl(user, "topic", topic.name, "DescribeConfigs")
        if user == "topics":
            yield Acl(user, "topic", topic.name, "Create")
            yield Acl(user, "topic", topic.name, "AlterConfigs")


class Grant(msgspec.Struct, frozen=True):
    """One user may do all of these operations to all of these resources of a kind."""

    user: User
    resource: Resource
    prefixed: bool
    operations: tuple[Operation, ...]
    names: tuple[str, ...]


def grouped(acls: Sequence[Acl]) -> list[Grant]:
    """The same, in as few grants as it takes; in the order of the users."""
    operations: dict[tuple[User, Resource, bool, str], list[Operation]] = defaultdict(list)
    for acl in acls:
        operations[acl.user, acl.resource, acl.prefixed, acl.name].append(acl.operation)
    names: dict[tuple[User, Resource, bool, tuple[Operation, ...]], list[str]] = defaultdict(list)
    for (user, resource, prefixed, name), several in operations.items():
        names[user, resource, prefixed, tuple(several)].append(name)
    return [
        Grant(user, resource, prefixed, together, tuple(on))
        for (user, resource, prefixed, together), on in names.items()
    ]


def commands(acls: Sequence[Acl], principal: str, options: Sequence[str]) -> Iterator[str]:
    """The lines of `kafka-acls.sh` that grant these.

    principal  `User:{user}`, with the user put in
    options    what says where the cluster is and who asks
    """
    for grant in grouped(acls):
        words = ["kafka-acls.sh", *options, "--add", "--allow-principal", principal.format(user=grant.user)]
        words += [word for operation in grant.operations for word in ("--operation", operation)]
        words += [word for name in grant.names for word in (f"--{grant.resource}", name)]
        words += ["--resource-pattern-type", "prefixed"] if grant.prefixed else []
        yield shlex.join(words)


def as_markdown(acls: Sequence[Acl]) -> str:
    """The same as a table."""
    lines = ["| user | may | on |", "|---|---|---|"]
    for grant in grouped(acls):
        on = ", ".join(f"`{name}{'*' if grant.prefixed else ''}`" for name in grant.names)
        lines.append(f"| {grant.user} | {', '.join(grant.operations)} | {grant.resource} {on} |")
    return "\n".join(lines)
