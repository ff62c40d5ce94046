"""The commands that ask services, against answers from memory; and what the command line promises."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from console.__main__ import main
from console.processes import free_port
from pipeline.settings import documented

SUPPRESSED = {
    "email": "a@example.com",
    "suppressed": True,
    "causes": {"hard_bounce": {"first": "2026-01-01T00:00:00.000Z", "latest": "2026-02-01T00:00:00.000Z"}},
    "updated_at": "2026-02-01T00:00:00.000Z",
}
PROCESSOR = """# TYPE postlog_processor_lane_open gauge
postlog_processor_lane_open{partition="3"} 1.0
# TYPE postlog_processor_lane_lag gauge
postlog_processor_lane_lag{partition="3"} 12.0
"""


@dataclass
class Service:
    """Answers by path; 404 otherwise."""

    url: str = ""
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.paths.append(self.path)
            status, text = found.answers.get(self.path, (404, "not found"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield found
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No system that may run on this checkout is asked."""
    monkeypatch.chdir(tmp_path)


def postlog(*args: str, **environ: str) -> Result:
    return CliRunner().invoke(main, args, obj=environ)


def test_an_address_that_must_not_be_mailed_is_shown_with_its_causes(service: Service) -> None:
    service.answers["/suppressions/a@example.com"] = (200, json.dumps(SUPPRESSED))
    result = postlog("suppressions", "get", " A@Example.com", "--url", service.url)
    assert result.exit_code == 0, result.output
    assert "a@example.com: suppressed, do not mail" in result.output
    assert "hard bounce  first 2026-01-01T00:00:00.000Z, latest 2026-02-01T00:00:00.000Z" in result.output


def test_an_address_nothing_is_known_of_is_not_suppressed_and_no_error(service: Service) -> None:
    answer = {"email": "b@example.com", "suppressed": False, "causes": {}, "updated_at": None}
    service.answers["/suppressions/b@example.com"] = (200, json.dumps(answer))
    result = postlog("suppressions", "get", "b@example.com", "--url", service.url)
    assert (result.exit_code, result.output) == (0, "b@example.com: not suppressed, nothing is known against it\n")


def test_json_is_what_lookup_answered(service: Service) -> None:
    service.answers["/suppressions/a@example.com"] = (200, json.dumps(SUPPRESSED))
    result = postlog("suppressions", "get", "a@example.com", "--json", "--url", service.url)
    assert json.loads(result.output) == SUPPRESSED


def test_an_address_is_quoted_into_the_path(service: Service) -> None:
    postlog("suppressions", "get", "a/b?c+d@example.com", "--url", service.url)
    assert service.paths == ["/suppressions/a%2Fb%3Fc%2Bd@example.com"]


def test_a_list_that_is_not_caught_up_is_an_error_and_not_a_verdict(service: Service) -> None:
    service.answers["/suppressions/a@example.com"] = (503, '{"error": "the list is not caught up yet"}')
    result = postlog("suppressions", "get", "a@example.com", "--url", service.url)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "answered 503: the list is not caught up yet" in result.stderr
    assert result.stdout == ""


def test_no_answer_is_an_error_that_says_where_to_look() -> None:
    result = postlog("suppressions", "get", "a@example.com", "--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "no answer. Is lookup up?" in result.stderr


def test_what_is_no_address_is_refused() -> None:
    result = postlog("suppressions", "get", "nobody")
    assert result.exit_code == 2
    assert "'nobody' is not an address" in result.stderr


def urls(service: Service, *, lookup: str = "") -> list[str]:
    return [
        *("--ingress-url", service.url, "--processor-url", service.url, "--alerter-url", service.url),
        *("--lookup-url", lookup or service.url),
    ]


def test_status_is_zero_when_every_service_is_ready(service: Service) -> None:
    heartbeat = f"postlog_alerter_heartbeat_timestamp_seconds {time.time()}\n"
    service.answers = {"/health/ready": (200, '{"ok": true}'), "/metrics": (200, PROCESSOR)}
    result = postlog("status", *urls(service))
    assert result.exit_code == 0, result.output
    assert result.output.count("ready") == 4
    service.answers["/metrics"] = (200, PROCESSOR + heartbeat)
    found = json.loads(postlog("status", "--json", *urls(service)).output)
    assert found["healthy"] is True
    assert {lane["partition"]: lane["lag"] for lane in found["lanes"]} == {3: 12}
    assert found["rates"] == {"events_in": 0.0, "processed": 0.0}
    assert found["alerts"]["heartbeat_age"] < 30


def test_status_is_one_and_says_why_when_a_service_is_not_ready(service: Service) -> None:
    service.answers = {"/health/ready": (503, '{"ok": false, "kafka": false}'), "/metrics": (200, "")}
    result = postlog("status", *urls(service, lookup=f"http://127.0.0.1:{free_port()}"))
    assert result.exit_code == 1
    assert result.output.count("not ready: kafka False") == 3
    assert "not ready: no answer" in result.output


def test_several_processors_can_be_named(service: Service) -> None:
    service.answers = {"/health/ready": (200, "{}"), "/metrics": (200, "")}
    found = json.loads(postlog("status", "--json", *urls(service), "--processor-url", service.url).output)
    assert [s["name"] for s in found["services"]] == ["ingress", "processor", "processor-2", "alerter", "lookup"]


def test_a_wrong_setting_is_one_line_and_exit_code_two() -> None:
    result = postlog("send", "--sample", "1", LOG_LEVEL="loud", WEBHOOK_SECRET="long-enough")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: LOG_LEVEL is 'loud'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("token", ["a\nb", "a b", "\udcff", "\u00fc", "a\0b"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(service: Service, token: str) -> None:
    result = postlog("suppressions", "get", "a@example.com", "--url", service.url, POSTLOG_TOKEN=token)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: POSTLOG_TOKEN is set to what is no token")
    assert (service.paths, token in result.stderr) == ([], False)
    postlog("suppressions", "get", "a@example.com", "--url", service.url, POSTLOG_TOKEN="postlog_x\n")
    assert service.paths


def test_every_setting_is_in_the_markdown_table() -> None:
    lines = postlog("settings", "--markdown").output.splitlines()
    assert len(lines) == len(documented()) + 2
    for line, (variable, default, meaning) in zip(lines[2:], documented(), strict=True):
        assert line.startswith(f"| `{variable}` | ")
        assert default in line
        assert meaning in line


def test_every_setting_is_in_the_table() -> None:
    output = postlog("settings").output
    assert all(variable in output for variable, _, _ in documented())


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("redrive",), "either IDs, or --all"),
        (("redrive", "3-17", "--all"), "either IDs, or --all"),
        (("redrive", "3-17", "--error", "NoRecipient"), "either IDs, or --all"),
        (("redrive", "3-17", "--limit", "5"), "either IDs, or --all"),
        (("redrive", "--error", "NoRecipient"), "either IDs, or --all"),
        (("redrive", "--all", "--rate", "0"), "--rate"),
        (("discard", "3-17"), "--because"),
        (("discard", "3-17", "--because", " "), "say why"),
        (("show", "17"), "'17' is no id of a letter"),
        (("list", "--since", "yesterday"), "'yesterday' is neither like 2h"),
        (("list", "--type", "bounce"), "hard_bounce"),
    ],
)
def test_letters_have_to_be_named_or_chosen_and_never_by_accident(args: tuple[str, ...], why: str) -> None:
    result = postlog("dlq", *args)
    assert result.exit_code == 2
    assert why in result.stderr


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command that does something, as one types it."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *path, name)
    else:
        yield path


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_the_help_of_every_command_shows_an_example(path: tuple[str, ...]) -> None:
    assert f"    postlog {' '.join(path)}" in postlog(*path, "--help").output


def test_the_version_is_shown() -> None:
    assert postlog("--version").output.startswith("postlog, version ")
