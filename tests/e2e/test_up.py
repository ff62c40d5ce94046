"""`postlog up` as a black box: it runs everything, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.settings import Settings
from tests.e2e.postlog import Up, argv, exists, postlog, until, up, whole

#: Seconds in which everything must have stopped.
STOP_SECONDS = 10.0


def send(running: Up, identity: str, kind: str, email: str) -> None:
    """Post one delivery by `postlog send`."""
    path = running.data / f"{identity}.ndjson"
    path.write_text(json.dumps({"id": identity, "type": kind, "data": {"email": email}}))
    result = running.run("send", path)
    assert result.returncode == 0, result.stderr


def suppressed(running: Up, email: str) -> bool:
    return bool(running.ask("suppressions", "get", email)["suppressed"])


def open_to_others(folder: Path) -> list[Path]:
    """What lies there, on any level, that another user may read, change or look into."""
    there = [path for path in folder.rglob("*") if not path.is_symlink()]
    assert {"kafka", "state", "logs"} <= {path.name for path in there}
    return [path for path in there if path.exists() and path.stat().st_mode & 0o077]


def gone(pids: dict[str, int]) -> bool:
    return not any(exists(pid) for pid in pids.values())


def test_one_command_runs_everything_survives_kafkas_death_and_stops_it_all(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        addresses = json.loads((tmp_path / "ready.json").read_text())
        assert set(addresses) == {"kafka", "ingress", "lookup", "processor", "processors", "alerter"}
        secret = running.data / "webhook-secret"
        assert (secret.stat().st_mode & 0o777, str(secret) in running.said()) == (0o600, True)

        assert (running.data.stat().st_mode & 0o777, open_to_others(running.data)) == (0o700, [])

        assert not suppressed(running, "one@example.com")
        send(running, "evt-1", "bounced.hard", "One@Example.com")
        until(lambda: suppressed(running, "one@example.com"), "the address is suppressed")
        assert running.run("status").returncode == 0
        assert running.run("topics", "check").returncode == 0

        before = running.pids()
        assert set(before) == {"kafka", "ingress", "processor", "alerter", "lookup"}
        os.kill(before["kafka"], signal.SIGKILL)
        until(lambda: running.pids()["kafka"] != before["kafka"], "Kafka was started again")
        send(running, "evt-2", "complained", "two@example.com")
        until(lambda: suppressed(running, "two@example.com"), "what came after Kafka's death is there")
        assert suppressed(running, "one@example.com")

        pids = running.pids()
        started = time.monotonic()
        assert running.stop() == 0, running.said()
        assert time.monotonic() - started < STOP_SECONDS
        assert gone(pids)
        assert not (running.data / "run.json").exists()
        assert "stopped" in running.said()


def test_a_killed_service_comes_back_a_second_up_is_refused_and_nothing_outlives_a_killed_up(
    settings: Settings, tmp_path: Path
) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers, "TOPIC_PREFIX": settings.topic_prefix}
    with up(tmp_path, "--processors", "2", "--ingress-workers", "2", **env) as running:
        before = running.pids()
        assert set(before) == {"ingress", "processor", "processor-2", "alerter", "lookup"}, "Kafka is not ours"
        sample = running.ask("send", "--sample", "300", "--duplicates", "0.1", "--seed", "1")
        assert (sample["ok"], sample["distinct"]) == (300, 270)

        os.kill(before["ingress"], signal.SIGKILL)
        os.kill(before["processor-2"], signal.SIGKILL)
        until(
            lambda: all(running.pids().get(n, before[n]) != before[n] for n in ("ingress", "processor-2")),
            "both back",
        )
        until(lambda: running.run("status").returncode == 0, "all is well again")
        assert "processor-2: waiting (killed by SIGKILL, again in 0.5 s" in running.said()
        until(lambda: running.ask("status")["totals"]["lag"] == 0, "every lane has caught up")
        assert len(running.ask("status")["lanes"]) == 12
        send(running, "evt-1", "bounced.hard", "one@example.com")
        until(lambda: suppressed(running, "one@example.com"), "the address is suppressed")

        second = running.run("up", "--ports", "auto")
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert running.process.poll() is None

        pids = running.pids()
        running.process.kill()
        running.process.wait()
        until(lambda: gone(pids), "its services have ended with it", patience=15.0)
        assert postlog("topics", "check", "--data", running.data, env=env).returncode == 0, (
            "a left run.json is no system"
        )


def test_a_service_that_refuses_its_configuration_stops_everything_with_its_reason(
    settings: Settings, tmp_path: Path
) -> None:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "ALERT_URLS": "nonsense-of-a-channel",
    }
    result = postlog("up", "--data", tmp_path / "data", "--ports", "auto", env=env)
    assert result.returncode == 2
    assert "error: alerter refused to start: " in result.stderr
    assert "ALERT_URLS" in result.stderr
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "LOOKUP_PORT": str(port)}
        result = postlog("up", "--data", tmp_path / "data", env=env)
    assert result.returncode == 2
    assert f"port {port} (lookup)" in result.stderr
    assert "--ports auto" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_can_be_stopped_while_it_still_waits_for_kafka(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        argv("up", "--data", data, "--ports", "auto"),
        env=whole({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As a terminal starts it; what runs these tests may ignore the end of its own.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        until(lambda: (data / "webhook-secret").exists(), "it is under way")
        process.send_signal(number)
        output, _ = process.communicate(timeout=STOP_SECONDS)
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
