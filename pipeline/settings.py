"""The environment, read once.

`load()` is called in each service's `__main__` with `os.environ` and nowhere else. Every value has a
sane default for one machine; a wrong one is refused with its name, what was given and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pipeline import ranges
from pipeline.errors import ConfigError
from pipeline.ranges import Copies, Count, CountOrNone, Descriptor, Patience, Port, Seconds, Size, Workers

#: Every secret must be at least this long: HMAC-SHA256 with an empty key verifies what anybody signs.
SHORTEST_SECRET = 8
#: Settings whose values nobody may read in a log, an error or a representation.
SECRET = frozenset(
    {"webhook_secret", "connector_http_secret", "connector_sql_url", "alert_urls", "kafka_sasl_password"}
)
#: What a text must be besides text: each check says what is wrong with one, or None.
CHECKS = {
    "kafka_bootstrap_servers": ranges.brokers,
    "ingress_trusted_proxies": ranges.networks,
    **dict.fromkeys(("ingress_host", "processor_host", "alerter_host", "lookup_host"), ranges.host),
    **dict.fromkeys(
        (
            *("kafka_tls_ca", "kafka_tls_cert", "kafka_tls_key", "kafka_sasl_password_file", "topics_file"),
            *("state_dir", "operator_tokens_file", "webhook_secret_file", "prometheus_multiproc_dir"),
            "ingress_spool_dir",
        ),
        ranges.path,
    ),
}
#: What a setting with a pattern may be, in words.
OTHERWISE = {"topic_prefix": "expected up to 60 letters, digits and . _ -"}
#: Characters of a wrong value that a message shows.
LONGEST_SHOWN = 100


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field per variable: `KAFKA_BOOTSTRAP_SERVERS` is `kafka_bootstrap_servers`."""

    kafka_bootstrap_servers: Annotated[str, Meta(description="brokers, `host:port`, comma-separated")] = (
        "127.0.0.1:9092"
    )
    kafka_wait_seconds: Annotated[
        Seconds, Meta(description="how long a starting service waits for Kafka before it exits with 1")
    ] = 60.0
    kafka_security: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        Meta(
            description="how to talk to the brokers, Kafka's `security.protocol`; `SASL_SSL` or `SSL` in production"
        ),
    ] = "PLAINTEXT"
    kafka_tls_ca: Annotated[
        str, Meta(description="PEM file of who signs the brokers' certificates; empty: whom this system trusts")
    ] = ""
    kafka_tls_cert: Annotated[
        str, Meta(description="PEM file of our own certificate with its chain, for brokers that ask for one (mTLS)")
    ] = ""
    kafka_tls_key: Annotated[
        str, Meta(description="PEM file of its key, not encrypted; empty: it is in KAFKA_TLS_CERT")
    ] = ""
    kafka_sasl_mechanism: Annotated[
        Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"], Meta(description="how to prove the password")
    ] = "SCRAM-SHA-512"
    kafka_sasl_username: Annotated[str, Meta(description="who we are to the brokers")] = ""
    kafka_sasl_password: Annotated[str, Meta(description="the password of that user")] = ""
    kafka_sasl_password_file: Annotated[
        str, Meta(description="or the file that holds it and nothing else; it is read again for every new client")
    ] = ""
    topics_file: Annotated[
        str, Meta(description="path of topics.yaml; empty means the one that comes with postlog")
    ] = ""
    topic_prefix: Annotated[
        str,
        Meta(
            description="put before every topic, group and transactional id: several postlogs on one cluster",
            pattern=r"^[A-Za-z0-9._-]{0,60}\Z",
        ),
    ] = ""
    topic_replication: Annotated[
        Copies, Meta(description="replicas of every topic; 0 means what topics.yaml says, 3 in production")
    ] = 0
    topic_min_insync_replicas: Annotated[
        Copies,
        Meta(description="in-sync replicas a write needs; 0 means what topics.yaml says, 2 in production"),
    ] = 0
    state_dir: Annotated[
        str, Meta(description="folder for RocksDB state; one per process, disposable, rebuilt from Kafka")
    ] = ".data/state"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least level that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"], Meta(description="lines for people, or one JSON object per line")
    ] = "console"

    operator_tokens_file: Annotated[
        str,
        Meta(
            description="hashes of operators' tokens, made by `postlog token`; needed where a service binds to more "
            "than this machine"
        ),
    ] = ""

    webhook_secret: Annotated[
        str,
        Meta(
            description=f"NexusProMail's signing secret, at least {SHORTEST_SECRET} characters; "
            "several, comma-separated, while rotating"
        ),
    ] = ""
    webhook_secret_file: Annotated[
        str,
        Meta(
            description="or the file that holds them, one in a line; it is read again when it changes, so rotating "
            "needs no restart"
        ),
    ] = ""
    ingress_host: Annotated[str, Meta(description="address the ingress binds to")] = "127.0.0.1"
    ingress_port: Annotated[Port, Meta(description="port the ingress binds to")] = 8080
    ingress_workers: Annotated[Workers, Meta(description="ingress processes on the one port")] = 1
    ingress_max_body_bytes: Annotated[Size, Meta(description="a larger body is answered 413")] = 1024 * 1024
    ingress_read_timeout_seconds: Annotated[
        Patience, Meta(description="a body that takes longer to arrive is answered 408")
    ] = 10.0
    ingress_max_connections: Annotated[
        Count,
        Meta(
            description="connections one process keeps; above it the oldest one that delivered nothing authentic is "
            "closed"
        ),
    ] = 3000
    ingress_max_refusals: Annotated[
        CountOrNone,
        Meta(
            description="requests of one address that were refused within 10 s; above it only a share of what it "
            "sends is read for 10 s, unless it delivered something authentic within the hour; 0: no limit",
        ),
    ] = 100
    ingress_max_unverified_bytes: Annotated[
        Size,
        Meta(
            description="bytes that one process keeps of large bodies whose signature is not checked yet; above it "
            "they wait, and who sends next to nothing is answered 408; not less than INGRESS_MAX_BODY_BYTES"
        ),
    ] = 64 * 1024 * 1024
    ingress_trusted_proxies: Annotated[
        str,
        Meta(
            description="addresses and networks of proxies in front of the ingress, comma-separated: behind them the "
            "client that X-Forwarded-For names is the one that is counted and shut out, never the proxy"
        ),
    ] = ""
    ingress_deadline_seconds: Annotated[
        Patience,
        Meta(description="Kafka must acknowledge within this, or the sender is asked to try again (503)"),
    ] = 2.5
    ingress_max_pending: Annotated[
        Count,
        Meta(description="events waiting for Kafka in one process; above it the sender is asked to try again"),
    ] = 20_000
    ingress_max_pending_bytes: Annotated[
        Size,
        Meta(
            description="bytes of memory that they may take, all copies counted, and again for what waits for the "
            "spool's disk; above it the same"
        ),
    ] = 64 * 1024 * 1024
    ingress_drain_seconds: Annotated[
        Patience, Meta(description="on SIGTERM, how long deliveries in flight may take to finish")
    ] = 5.0

    prometheus_multiproc_dir: Annotated[
        str, Meta(description="set by the ingress for its own processes when there are several; leave it unset")
    ] = ""

    ingress_listen_fd: Annotated[
        Descriptor,
        Meta(description="set by the ingress for its own processes, the socket they listen on; leave it unset"),
    ] = -1

    ingress_started_fd: Annotated[
        Descriptor,
        Meta(description="set by the ingress for its own processes, to learn when they listen; leave it unset"),
    ] = -1

    ingress_spool_dir: Annotated[
        str,
        Meta(description="folder for deliveries that Kafka cannot take in time; none: they are answered 503"),
    ] = ""
    ingress_spool_max_bytes: Annotated[
        Size,
        Meta(
            description="bytes a process' spool may hold; less if the disk has less: a twentieth of it, 256 MiB at "
            "most, stays free"
        ),
    ] = 1024**3
    ingress_spool_max_seconds: Annotated[
        Seconds, Meta(description="nothing more is spooled while the oldest record has waited for longer")
    ] = 86_400.0
    processor_host: Annotated[str, Meta(description="address of the processor's health and metrics")] = "127.0.0.1"
    processor_port: Annotated[Port, Meta(description="port of the processor's health and metrics")] = 8081
    processor_session_timeout_seconds: Annotated[
        Patience,
        Meta(description="how long a silent processor keeps its partitions; takeover takes this long"),
    ] = 10.0
    processor_standby_lanes: Annotated[
        Copies,
        Meta(
            description="processors that follow the state of each partition besides its owner, so that one of them "
            "takes it over at once; 0: it restores first",
        ),
    ] = 1
    processor_max_batch: Annotated[Count, Meta(description="records one transaction holds at most")] = 20_000
    processor_max_rejected_share: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="above this share of dead letters in the latest 1,000 records the processor stops; 1: never",
        ),
    ] = 0.5
    handlers: Annotated[
        str,
        Meta(description="modules with handlers to call for events, `package.module`, comma-separated"),
    ] = ""
    connector_http_url: Annotated[
        str, Meta(description="where connectors.http posts every change of a suppression to")
    ] = ""
    connector_http_secret: Annotated[
        str,
        Meta(description="what connectors.http signs with, `whsec_…`; several, comma-separated, while rotating"),
    ] = ""
    connector_sql_url: Annotated[
        str,
        Meta(
            description="where connectors.sql keeps the list: `sqlite:///…` or `postgresql://user:password@host/db`"
        ),
    ] = "sqlite:///.data/suppressions.db"
    lane_stall_seconds: Annotated[
        Seconds, Meta(description="a lane that is behind and makes no progress this long is not live")
    ] = 60.0

    alerter_host: Annotated[str, Meta(description="address of the alerter's health and metrics")] = "127.0.0.1"
    alerter_port: Annotated[Port, Meta(description="port of the alerter's health and metrics")] = 8082
    alert_urls: Annotated[
        str,
        Meta(description="apprise URLs, separated by spaces or new lines; none: alerts go to the log"),
    ] = ""
    alert_digest_seconds: Annotated[
        Seconds, Meta(description="how often dead letters that are not critical are told, grouped")
    ] = 60.0
    alert_despam_seconds: Annotated[
        Seconds, Meta(description="a group that was told is told again after this at the earliest")
    ] = 300.0
    alert_flood_letters: Annotated[
        Count, Meta(description="more dead letters than these within ALERT_FLOOD_SECONDS are told as a flood")
    ] = 1000
    alert_flood_seconds: Annotated[Seconds, Meta(description="the window of ALERT_FLOOD_LETTERS")] = 600.0
    alert_open_seconds: Annotated[
        Seconds, Meta(description="a dead letter that is open for longer is told: nobody deals with it")
    ] = 86400.0
    alert_retry_seconds: Annotated[Seconds, Meta(description="how long a failing channel is tried for one alert")] = (
        600.0
    )

    lookup_host: Annotated[str, Meta(description="address the lookup API binds to")] = "127.0.0.1"
    lookup_port: Annotated[Port, Meta(description="port the lookup API binds to")] = 8083

    def __repr__(self) -> str:
        """What differs from the defaults; of a secret only that it is set."""
        changed = {
            field.name: value
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        shown = [f"{name}={'…' if name in SECRET else repr(value)}" for name, value in changed.items()]
        return f"Settings({', '.join(shown)})"


def load(environ: Mapping[str, str]) -> Settings:
    """Settings from environment variables; an empty variable counts as not set.

    Raises ConfigError naming the variable, what it was and what is allowed.
    """
    given = {
        field.name: environ[field.name.upper()]
        for field in msgspec.structs.fields(Settings)
        if environ.get(field.name.upper(), "").strip()
    }
    for name, value in given.items():
        # One at a time, so that the message can name the variable.
        if reason := _wrong(name, value):
            raise ConfigError(f"{name.upper()} is {_quoted(name, value)}: {reason}. Correct it, or unset it.")
    loaded = msgspec.convert(given, Settings, strict=False)
    require_one_way_in(loaded)
    return loaded


def _wrong(name: str, value: str) -> str | None:
    """What is wrong with the value of a setting, as the end of a sentence; None if nothing."""
    if reason := ranges.text(value):
        return reason
    try:
        msgspec.convert({name: value}, Settings, strict=False)
    except msgspec.ValidationError:
        return OTHERWISE.get(name) or ranges.described(schema()[name])
    return CHECKS[name](value) if name in CHECKS else None


def _quoted(name: str, value: str) -> str:
    """The value as a message shows it: in one line of bounded length, and a secret not at all."""
    if name in SECRET:
        return "set"
    return repr(value) if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]!r}… ({len(value)} characters)"


@cache
def schema() -> dict[str, Any]:
    """What each setting may be, as JSON schema."""
    found: dict[str, Any] = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    return found


def require_one_way_in(settings: Settings) -> None:
    """The settings of Kafka's security must fit together: one that would be ignored is one that somebody relies on.

    Raises ConfigError naming the variable and the cure.
    """
    way = settings.kafka_security
    credentials = ("kafka_sasl_username", "kafka_sasl_password", "kafka_sasl_password_file")
    if not way.startswith("SASL_"):
        _require_unset(settings, credentials, "SASL_SSL")
    if not way.endswith("SSL"):
        files = ("kafka_tls_ca", "kafka_tls_cert", "kafka_tls_key")
        _require_unset(settings, files, way.replace("PLAINTEXT", "SSL"))
    if settings.kafka_tls_key and not settings.kafka_tls_cert:
        raise ConfigError("KAFKA_TLS_KEY is set and KAFKA_TLS_CERT is not: name the certificate of that key there.")
    if way.startswith("SASL_"):
        _require_credentials(settings)


def _require_unset(settings: Settings, names: tuple[str, ...], cure: str) -> None:
    for name in names:
        if getattr(settings, name):
            raise ConfigError(
                f"{name.upper()} is set, but with KAFKA_SECURITY={settings.kafka_security} nothing would use it: "
                f"set KAFKA_SECURITY={cure}, or unset it."
            )


def _require_credentials(settings: Settings) -> None:
    needed = f"KAFKA_SECURITY={settings.kafka_security} needs"
    if not settings.kafka_sasl_username:
        raise ConfigError(f"KAFKA_SASL_USERNAME is not set: {needed} a user and a password.")
    if bool(settings.kafka_sasl_password) == bool(settings.kafka_sasl_password_file):
        raise ConfigError(
            f"{needed} a password from one place: set either KAFKA_SASL_PASSWORD or KAFKA_SASL_PASSWORD_FILE."
        )


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def documented() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in order: docs/settings.md is made of it."""
    described = schema()
    return [
        (field.name.upper(), _shown(field.default), described[field.name]["description"])
        for field in msgspec.structs.fields(Settings)
    ]
