"""One run of everything: Kafka, its topics, every service, kept running until interrupted.

The shell around plan.py (what to start), stack.py (keeping it running) and view.py (showing it). What always holds:
`stop` ends everything that `run` started, and run.json is there only while it runs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console

from console import broker, claim, plan, ports, running, sender, topics
from console.local_kafka import LocalKafka
from console.numbers import Numbers
from console.plan import Process
from console.running import Folder
from console.stack import Stack
from console.view import View, progress, view
from pipeline import private, secrets
from pipeline.errors import BrokerStartFailed, ConfigError, TopicsMismatch
from pipeline.settings import Settings

TICK = 0.25
#: Seconds everything has to stop, and how much of them the services may take; Kafka has the rest.
STOP_SECONDS, STOP_SERVICES = 9.5, 7.5
#: Seconds the ports of a run that was killed are waited for: its services are stopping.
LEFTOVERS = 10.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What to run. ready_file gets the addresses once everything is ready; auto takes any free ports."""

    settings: Settings
    environ: Mapping[str, str]
    folder: Folder
    processors: int = 1
    auto: bool = False
    ready_file: Path | None = None

    @property
    def kafka_port(self) -> int | None:
        """Port of the local broker, 0 for any; None if KAFKA_BOOTSTRAP_SERVERS names another."""
        if self.environ.get(broker.VARIABLE, "").strip():
            return None
        return 0 if self.auto else int(self.settings.kafka_bootstrap_servers.rpartition(":")[2])


@dataclass(slots=True)
class System:
    """Call `stop` whatever became of `run`; both from the main thread."""

    wish: Wish
    console: Console
    kafka: LocalKafka | None = None
    stack: Stack | None = None
    planned: list[Process] = field(default_factory=list)

    def run(self) -> None:
        """Start everything and keep it running; KeyboardInterrupt is how it ends.

        Raises ConfigError, BrokerStartFailed, KafkaUnavailable.
        """
        wish = self.wish
        if wish.kafka_port is not None and wish.settings.kafka_security != "PLAINTEXT":
            raise ConfigError(
                f"KAFKA_SECURITY is {wish.settings.kafka_security}, and the local Kafka has neither TLS nor users: "
                f"name your brokers in {broker.VARIABLE}, or unset it."
            )
        # Checked first: a person shall not wait for Kafka to learn of a wrong secret or a taken port.
        secret = self._secret()
        self.planned = ports.settle(
            plan.processes(wish.settings, wish.processors),
            kafka=wish.kafka_port or 0,
            auto=wish.auto,
            patience=LEFTOVERS if wish.folder.run.exists() else 0.0,
        )
        self._forget()
        claim.fresh_scratch(wish.folder)
        kafka = self._start_kafka()
        self._create_topics(kafka)
        common = {
            **wish.environ,
            broker.VARIABLE: kafka,
            **secret,
            "INGRESS_WORKERS": str(wish.settings.ingress_workers),
        }
        self.stack = Stack([plan.service(process, wish.folder, common) for process in self.planned])
        with view(self.console) as shown:
            self._supervise(self.stack, kafka, shown)

    def _secret(self) -> dict[str, str]:
        """What the ingress needs in its environment to know the secret. Raises ConfigError if it would refuse it."""
        settings, given = self.wish.settings, {}
        if not settings.webhook_secret_file:
            given = {"WEBHOOK_SECRET": settings.webhook_secret or self.wish.folder.secret_or_new()}
            settings = msgspec.structs.replace(settings, webhook_secret=given["WEBHOOK_SECRET"])
        secrets.of(settings)
        return given

    def stop(self) -> None:
        """Stop what runs, in order and in bounded time, and take back what was written for others."""
        deadline = time.monotonic() + STOP_SECONDS
        try:
            if self.stack:
                self.stack.stop(STOP_SERVICES)
        finally:
            if self.kafka:
                self.kafka.stop(timeout=max(1.0, deadline - time.monotonic()))
            self._forget()

    def _forget(self) -> None:
        for path in (self.wish.folder.run, self.wish.ready_file):
            if path:
                with contextlib.suppress(OSError):  # What cannot be removed here could not be written either.
                    path.unlink()

    def _start_kafka(self) -> str:
        port = self.wish.kafka_port
        if port is None:
            return self.wish.settings.kafka_bootstrap_servers
        self.kafka = LocalKafka(private.folder(self.wish.folder.kafka, running.OPTION), port=port)
        with progress(self.console) as told:
            try:
                self.kafka.start(told)
            except BrokerStartFailed as error:
                raise BrokerStartFailed(f"{error}\nOr start one yourself and name it in {broker.VARIABLE}.") from None
        return self.kafka.bootstrap

    def _create_topics(self, kafka: str) -> None:
        settings = msgspec.structs.replace(self.wish.settings, kafka_bootstrap_servers=kafka)
        created, differences = topics.create_missing(settings)
        if created:
            self.console.print(f"created {', '.join(created)}", soft_wrap=True)
        if self.kafka:
            # It is ours alone, and there is no other moment at which somebody could type a command for it.
            changed = topics.change(settings, differences)
            for line in topics.said(changed):
                self.console.print(line, soft_wrap=True)
            differences = [each for each in differences if each not in changed]
        topics.show(differences)
        if topics.serious(differences):
            raise TopicsMismatch("the cluster's topics are not what topics.yaml says: see the cures above.")

    def _supervise(self, stack: Stack, kafka: str, shown: View) -> None:
        numbers = Numbers({p.name: p.url for p in self.planned if p.kind in ("ingress", "processor")})
        pids: dict[str, int] = {}
        announced = False
        while True:
            self._revive_kafka(shown)
            for change in stack.tick():
                shown.changed(change)
            if pids != (pids := self._pids(stack)):
                running.write(self.wish.folder.run, plan.running(self.planned, kafka, pids))
            if stack.ready and not announced:
                self._announce(kafka, shown)
                announced = True
            numbers.look()
            shown.refresh(stack.children, kafka, numbers.totals, numbers.rates)
            time.sleep(TICK)

    def _pids(self, stack: Stack) -> dict[str, int]:
        return stack.pids() | ({"kafka": self.kafka.process.pid} if self.kafka else {})

    def _revive_kafka(self, shown: View) -> None:
        """A local broker that died comes back with its data; the services wait for it or are started again."""
        if self.kafka and (code := self.kafka.process.poll()) is not None:
            shown.note(f"kafka: ended with {code}, starting it again; its log is {self.kafka.log}")
            self.kafka.start()
            shown.note("kafka: ready")

    def _announce(self, kafka: str, shown: View) -> None:
        addresses = plan.running(self.planned, kafka, {})
        if self.wish.ready_file:
            running.write(self.wish.ready_file, addresses)
        settings = self.wish.settings
        kept = settings.webhook_secret_file or (not settings.webhook_secret and self.wish.folder.secret)
        secret = f"the secret in {kept}" if kept else "WEBHOOK_SECRET"
        shown.note(f"ready: post deliveries to {addresses.ingress}{sender.PATH}, signed with {secret}")
