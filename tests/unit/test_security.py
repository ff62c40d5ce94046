"""TLS and SASL: what fits together, what is said when it does not, and that no password is in any of it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidTimestampError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
)
from click.testing import CliRunner

from console.__main__ import main
from pipeline import kafka, security, settings
from pipeline.errors import ConfigError, KafkaRefused, PostlogError
from pipeline.settings import Settings
from processor.transport import credentials
from tests.certificates import Authority

PASSWORD = "correct-horse-battery"
USER = {"KAFKA_SASL_USERNAME": "lookup", "KAFKA_SASL_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pems"), "authority")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"KAFKA_SECURITY": "TLS"}, "KAFKA_SECURITY"),
        ({"KAFKA_TLS_CA": "ca.pem"}, "KAFKA_TLS_CA"),
        ({"KAFKA_SECURITY": "SASL_PLAINTEXT", "KAFKA_TLS_CERT": "c.pem", **USER}, "KAFKA_SECURITY=SASL_SSL"),
        (USER, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SECURITY": "SSL", **USER}, "KAFKA_SECURITY=SASL_SSL"),
        ({"KAFKA_SECURITY": "SSL", "KAFKA_TLS_KEY": "k.pem"}, "KAFKA_TLS_CERT"),
        ({"KAFKA_SECURITY": "SASL_SSL", "KAFKA_SASL_PASSWORD": PASSWORD}, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SECURITY": "SASL_SSL", "KAFKA_SASL_USERNAME": "lookup"}, "KAFKA_SASL_PASSWORD_FILE"),
        ({"KAFKA_SECURITY": "SASL_SSL", "KAFKA_SASL_PASSWORD_FILE": "f", **USER}, "from one place"),
        ({"KAFKA_SECURITY": "SASL_SSL", "KAFKA_SASL_MECHANISM": "GSSAPI", **USER}, "KAFKA_SASL_MECHANISM"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_the_cure(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.load(environ)
    assert named in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_without_settings_there_is_neither_tls_nor_a_user() -> None:
    assert security.options(Settings()) == {"security_protocol": "PLAINTEXT"}
    assert credentials(security.options(Settings())) is None


def test_tls_always_verifies_the_certificate_and_the_host_name(authority: Authority) -> None:
    options = kafka.client_options(Settings(kafka_security="SSL", kafka_tls_ca=str(authority.file)))
    context = options["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    # Only the authority that was named: none of the system's.
    assert len(context.get_ca_certs()) == 1


def test_a_certificate_that_was_renewed_counts_for_the_next_client(authority: Authority, tmp_path: Path) -> None:
    copy = tmp_path / "ca.pem"
    copy.write_bytes(authority.file.read_bytes())
    wanted = Settings(kafka_security="SSL", kafka_tls_ca=str(copy))
    first = security.options(wanted)["ssl_context"]
    assert security.options(wanted)["ssl_context"] is first
    copy.write_bytes(Authority(tmp_path, "next").file.read_bytes())
    assert security.options(wanted)["ssl_context"].get_ca_certs() != first.get_ca_certs()


@pytest.mark.parametrize("changes", [{"kafka_tls_ca": "none.pem"}, {"kafka_tls_cert": "none.pem"}])
def test_a_file_that_is_not_there_is_named(changes: dict[str, str], authority: Authority) -> None:
    wanted = {"kafka_security": "SSL", "kafka_tls_ca": str(authority.file), **changes}
    [(name, _)] = changes.items()
    with pytest.raises(ConfigError, match=f"^{name.upper()}: none.pem cannot be read: No such file"):
        security.options(Settings(**wanted))  # type: ignore[arg-type]


def test_files_that_are_no_certificates_or_do_not_belong_together_are_refused(
    authority: Authority, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"KAFKA_TLS_CA: .* must be a PEM file"):
        security.options(Settings(kafka_security="SSL", kafka_tls_ca=str(nonsense)))
    one, other = authority.sign("one"), authority.sign("other")
    with pytest.raises(ConfigError, match=r"KAFKA_TLS_CERT: .* belong together"):
        security.options(
            Settings(kafka_security="SSL", kafka_tls_cert=str(one.certificate), kafka_tls_key=str(other.key))
        )
    security.options(Settings(kafka_security="SSL", kafka_tls_cert=str(one.both)))


def test_a_password_file_is_read_again_for_every_client(tmp_path: Path) -> None:
    file = tmp_path / "password"
    wanted = Settings(
        kafka_security="SASL_PLAINTEXT", kafka_sasl_username="lookup", kafka_sasl_password_file=str(file)
    )
    with pytest.raises(ConfigError, match=r"KAFKA_SASL_PASSWORD_FILE: .* cannot be read"):
        security.options(wanted)
    for content in ("first\n", "second\n"):
        file.write_text(content)
        assert security.options(wanted)["sasl_plain_password"] == content.strip()
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        security.options(wanted)


@pytest.mark.parametrize("way", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_gets_in_as_every_other_client_does(way: str, authority: Authority) -> None:
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

    wanted = settings.load(
        {"KAFKA_SECURITY": way, **USER} | ({"KAFKA_TLS_CA": str(authority.file)} if way == "SASL_SSL" else {})
    )
    options = security.options(wanted)
    assert credentials_to_aiokafka_auth(credentials(options)) == {"ssl_context": None} | options


def test_faust_shows_the_same_certificate(authority: Authority) -> None:
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

    options = security.options(Settings(kafka_security="SSL", kafka_tls_cert=str(authority.sign("me").both)))
    assert credentials_to_aiokafka_auth(credentials(options)) == options


def test_no_secret_is_in_a_representation() -> None:
    everything = Settings(**{name: f"hidden-{name}" for name in settings.SECRET})  # type: ignore[arg-type]
    assert "hidden" not in repr(everything)
    assert all(f"{name}=…" in repr(everything) for name in settings.SECRET)
    assert repr(Settings(topic_prefix="eu.")) == "Settings(topic_prefix='eu.')"


def test_the_local_kafka_is_not_started_for_who_asks_for_tls(tmp_path: Path) -> None:
    environ = {"KAFKA_SECURITY": "SSL", "WEBHOOK_SECRET": "a-secret-0123456789"}
    done = CliRunner().invoke(main, ["up", "--data", str(tmp_path / "data"), "--ports", "auto"], obj=environ)
    assert done.exit_code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in done.output
    assert not (tmp_path / "data" / "kafka").exists()


def test_the_list_of_settings_shows_no_value() -> None:
    done = CliRunner().invoke(main, ["settings"], obj={"KAFKA_SECURITY": "SASL_SSL", **USER})
    assert "KAFKA_SASL_PASSWORD" in done.output
    assert PASSWORD not in done.output


@pytest.mark.parametrize(
    "error",
    [
        TopicAuthorizationFailedError({"eu.events"}),
        TopicAuthorizationFailedError("eu.events"),
        ExceptionGroup("tasks", [ValueError(), GroupAuthorizationFailedError("eu.events")]),
    ],
)
def test_what_kafka_does_not_allow_is_named_wherever_it_comes_from(error: Exception) -> None:
    refused = security.denied(error)
    assert isinstance(refused, KafkaRefused)
    assert "eu.events" in str(refused)
    outer = PostlogError("the consumer stopped")
    outer.__cause__ = error
    assert str(security.denied(outer)) == str(refused)


def test_a_time_that_kafka_refuses_names_the_clock_and_the_cure_wherever_it_comes_from() -> None:
    outer = PostlogError("Kafka refused")
    outer.__cause__ = ExceptionGroup("tasks", [InvalidTimestampError()])
    for error in (InvalidTimestampError(), outer):
        refused = security.denied(error)
        assert isinstance(refused, KafkaRefused)
        assert "this machine's clock" in str(refused)
        assert "postlog topics apply" in str(refused)


def test_any_other_error_is_not_taken_for_a_denial() -> None:
    error = KafkaConnectionError("away")
    assert security.denied(error) is None
    assert type(security.told(error)) is PostlogError
