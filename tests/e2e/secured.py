"""A broker with TLS, users and authorisation, and what it takes to get in.

What always holds: whoever is not the set-up client gets in through a listener with TLS, under a name of its own, and
may do what was granted and nothing else. The set-up client has a listener without both, on which only it knows.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from aiokafka.protocol.admin import CreateAclsRequest

from console import processes
from console.kafka_properties import HOST
from console.local_kafka import LocalKafka
from pipeline import kafka
from pipeline import settings as environment
from pipeline.acls import USERS, Acl
from pipeline.errors import KafkaRefused
from pipeline.settings import Settings
from tests.certificates import Authority
from tests.e2e import access
from tests.e2e.system import until

PASSWORD = "correct-horse-battery-staple"
#: Listener: what its certificate is for; every one asks for a user, except the last, which asks for a certificate.
LISTENERS = ("USERS", "EXPIRED", "ELSEWHERE", "ASTRAY", "MUTUAL")

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")
#: Kafka's numbers for our words, https://kafka.apache.org/protocol
_RESOURCES = {"topic": 2, "group": 3, "transactional-id": 5}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10, "AlterConfigs": 11}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3


#: Set it, and the tests on a shared broker run on a secured one, every service as a user of its own
VARIABLE = "POSTLOG_TEST_SECURED"
_SESSION: dict[str, SecuredKafka] = {}


@contextmanager
def session(folder: Path) -> Iterator[str]:
    """A secured broker for a whole run; the address of the set-up client's listener."""
    with SecuredKafka(folder) as broker:
        assert isinstance(broker, SecuredKafka)
        _SESSION[broker.bootstrap], access.BROKERS[broker.bootstrap] = broker, broker.access
        try:
            yield broker.bootstrap
        finally:
            del _SESSION[broker.bootstrap], access.BROKERS[broker.bootstrap]


async def grant(settings: Settings) -> None:
    """What a pipeline with these settings needs, if its broker asks for it."""
    if broker := _SESSION.get(settings.kafka_bootstrap_servers):
        await broker.allow(settings, kafka.acls(settings))


class SecuredKafka(LocalKafka):
    """A local broker with LISTENERS beside its plain one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        pems = self.folder / "pems"
        pems.mkdir(parents=True, exist_ok=True)
        self.pems = pems
        self.authority, self.stranger = Authority(pems, "authority"), Authority(pems, "stranger")
        self._certificates = {
            "USERS": self.authority.sign("broker"),
            "EXPIRED": self.authority.sign("expired", valid=False),
            "ELSEWHERE": self.authority.sign("elsewhere", host="kafka.example.com"),
            "ASTRAY": self.authority.sign("astray"),
            "MUTUAL": self.authority.sign("mutual"),
        }
        self._listening = {name: processes.free_port() for name in LISTENERS}

    def address(self, listener: str) -> str:
        """Where clients find a listener, by the name in its certificate."""
        return f"localhost:{self._listening[listener]}"

    def access(self, user: str, **changes: str) -> dict[str, str]:
        """The environment of a user: over TLS, with its password."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.address("USERS"),
            "KAFKA_SECURITY": "SASL_SSL",
            "KAFKA_TLS_CA": str(self.authority.file),
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            **changes,
        }

    def mutual(self, signer: Authority, user: str) -> dict[str, str]:
        """The environment of a user that shows a certificate of that signer."""
        mine = signer.sign(user)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.address("MUTUAL"),
            "KAFKA_SECURITY": "SSL",
            "KAFKA_TLS_CA": str(self.authority.file),
            "KAFKA_TLS_CERT": str(mine.certificate),
            "KAFKA_TLS_KEY": str(mine.key),
        }

    def run(self, lines: Iterable[str]) -> None:
        """Run lines of `kafka-acls.sh` as they are."""

        def run(line: str) -> None:
            program, *words = shlex.split(line)
            assert program == "kafka-acls.sh", line
            done = self.tool("org.apache.kafka.tools.AclCommand", *words)
            assert done.returncode == 0, done.stdout + done.stderr

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, lines))

    async def allow(self, settings: Settings, acls: Iterable[Acl]) -> None:
        """Grant these without the tool, which takes seconds for each; return once they count.

        settings  the set-up client's
        """
        # In order, so that all count once those of the last user do, which looks at the topics.
        ordered = sorted(acls, key=lambda acl: acl.user == "topics")
        async with kafka.admin(settings) as client:
            for acl in ordered:
                request = CreateAclsRequest(
                    _RESOURCES[acl.resource],
                    acl.name,
                    _PREFIXED if acl.prefixed else _LITERAL,
                    f"User:{acl.user}",
                    "*",
                    _OPERATIONS[acl.operation],
                    _ALLOW,
                )
                answer = await client._send_request(request)
                assert [code for code, _ in answer.creation_responses] == [0], answer
        await until(lambda: self._counts(settings), "the ACLs count")

    async def _counts(self, settings: Settings) -> bool:
        theirs = environment.load(self.access("topics", TOPIC_PREFIX=settings.topic_prefix))
        try:
            await kafka.check(theirs)
        except KafkaRefused:
            return False
        return True

    def _server_properties(self) -> dict[str, str]:
        plain = super()._server_properties()
        ours = self._listening.items()
        more = {
            "listeners": [f"{name}://{HOST}:{port}" for name, port in ours],
            # One says that it is at an address for which it has no certificate.
            "advertised.listeners": [
                f"{name}://{HOST if name == 'ASTRAY' else 'localhost'}:{port}" for name, port in ours
            ],
            "listener.security.protocol.map": [
                f"{name}:{'SSL' if name == 'MUTUAL' else 'SASL_SSL'}" for name in LISTENERS
            ],
        }
        found = plain | {name: ",".join([plain[name], *values]) for name, values in more.items()}
        found |= {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The set-up client, and the broker to itself, on the listener without users.
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
        }
        for name in LISTENERS:
            found |= self._listener(f"listener.name.{name.lower()}", name)
        return found

    def _listener(self, prefix: str, name: str) -> dict[str, str]:
        found = {
            f"{prefix}.ssl.keystore.type": "PEM",
            f"{prefix}.ssl.keystore.location": str(self._certificates[name].both),
            f"{prefix}.ssl.truststore.type": "PEM",
            f"{prefix}.ssl.truststore.location": str(self.authority.file),
        }
        if name == "MUTUAL":
            return found | {
                f"{prefix}.ssl.client.auth": "required",
                f"{prefix}.ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/,DEFAULT",
            }
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return found | {
            f"{prefix}.sasl.enabled.mechanisms": ",".join(MECHANISMS),
            **{f"{prefix}.{mechanism.lower()}.sasl.jaas.config": scram for mechanism in MECHANISMS},
        }

    def _format_options(self) -> tuple[str, ...]:
        users = (f"{mechanism}=[name={user},password={PASSWORD}]" for user in USERS for mechanism in MECHANISMS)
        return tuple(word for user in users for word in ("--add-scram", user))
