"""What `postlog up` starts: which processes, on which ports, with which environment.

Values in, values out; ports.py finds the ports and stack.py runs the processes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from console.options import Environ, url
from console.running import Folder, Running
from console.stack import Service
from pipeline.settings import Settings

Kind = Literal["ingress", "processor", "alerter", "lookup"]

#: Who takes work in stops first, and who only watches or answers stops last; started the other way round.
STAGES: dict[Kind, int] = {"alerter": 0, "lookup": 0, "processor": 1, "ingress": 2}


@dataclass(frozen=True, slots=True)
class Process:
    """One process that will serve on this address; number counts from 1 within its kind."""

    kind: Kind
    number: int
    host: str
    port: int

    @property
    def name(self) -> str:
        """What people call it: `processor`, and `processor-2` for the second one."""
        return self.kind if self.number == 1 else f"{self.kind}-{self.number}"

    @property
    def url(self) -> str:
        """Where to reach it from here."""
        return url(self.host, self.port)


def processes(settings: Settings, processors: int) -> list[Process]:
    """Everything that runs besides Kafka, on the settings' ports; 0 stands for any port that is free."""
    return [
        Process("alerter", 1, settings.alerter_host, settings.alerter_port),
        Process("lookup", 1, settings.lookup_host, settings.lookup_port),
        *(
            # They share a host: only the first can have the settings' port.
            Process("processor", number, settings.processor_host, settings.processor_port if number == 1 else 0)
            for number in range(1, processors + 1)
        ),
        Process("ingress", 1, settings.ingress_host, settings.ingress_port),
    ]


def service(process: Process, folder: Folder, environ: Environ) -> Service:
    """How to run a process; environ already names Kafka, the secret and whatever else all of them need."""
    return Service(
        name=process.name,
        argv=(sys.executable, "-m", process.kind),
        env={
            **environ,
            f"{process.kind.upper()}_HOST": process.host,
            f"{process.kind.upper()}_PORT": str(process.port),
            # A folder of the caller's that happens to be called `lookup` is not our package.
            "PYTHONSAFEPATH": "1",
            "TMPDIR": str(folder.scratch),
            "STATE_DIR": str(folder.state(process.kind, process.number)),
        },
        log=folder.log(process.name),
        url=process.url,
        stage=STAGES[process.kind],
    )


def running(planned: list[Process], kafka: str, pids: dict[str, int]) -> Running:
    """The addresses to write down."""
    urls = {process.name: process.url for process in planned}
    return Running(
        kafka=kafka,
        ingress=urls["ingress"],
        lookup=urls["lookup"],
        processor=urls.get("processor", ""),
        alerter=urls["alerter"],
        processors=[process.url for process in planned if process.kind == "processor"],
        pids=pids,
    )
