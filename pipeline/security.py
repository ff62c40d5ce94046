"""Who the brokers are, who we are to them, and what either side refuses.

Every client takes TLS and SASL from here (`kafka.client_options`). What always holds: with TLS a broker's certificate
is verified and so is its host name, there is no setting against it; no password is in a message or a representation.
A shell: it reads the files that the settings name, and `refusal` connects to the brokers.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidTimestampError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from pipeline.errors import ConfigError, KafkaRefused, PostlogError
from pipeline.settings import Settings, require_one_way_in
from pipeline.topics import APPLY, BY_THE_LOG

#: How long one broker may take to tell why it refuses us, in ms.
ASK_MS = 10_000
#: OpenSSL's codes of X.509 verification, https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error
_EXPIRED, _NOT_YET, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64
#: What a broker's TLS alert says when it is our certificate that it does not take, in OpenSSL's words.
_ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")
#: What OpenSSL says when the other side does not speak TLS at all.
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def options(settings: Settings) -> dict[str, Any]:
    """What an aiokafka client takes of TLS and SASL. Raises ConfigError naming the setting and the cure."""
    require_one_way_in(settings)
    found: dict[str, Any] = {"security_protocol": settings.kafka_security}
    if settings.kafka_security.endswith("SSL"):
        found["ssl_context"] = _context(settings)
    if settings.kafka_security.startswith("SASL_"):
        found |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return found


def _password(settings: Settings) -> str:
    if settings.kafka_sasl_password:
        return settings.kafka_sasl_password
    path = settings.kafka_sasl_password_file
    try:
        password = Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"KAFKA_SASL_PASSWORD_FILE: {path} cannot be read: {_short(error)}.") from None
    if not password:
        raise ConfigError(f"KAFKA_SASL_PASSWORD_FILE: {path} is empty: put the password there.")
    return password


def _context(settings: Settings) -> ssl.SSLContext:
    """The context for these files as they are now: one that has changed counts for clients made from then on."""
    names = ("kafka_tls_ca", "kafka_tls_cert", "kafka_tls_key")
    paths = {name: getattr(settings, name) for name in names}
    stamps = []
    for name, path in paths.items():
        try:
            stamps.append(Path(path).stat().st_mtime_ns if path else 0)
        except OSError as error:
            raise ConfigError(f"{name.upper()}: {path} cannot be read: {_short(error)}.") from None
    return _made(*paths.values(), tuple(stamps))


# Every lane opens several clients, and reading all that a system trusts takes tens of ms.
@lru_cache(maxsize=4)
def _made(authorities: str, certificate: str, key: str, _: tuple[int, ...]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authorities or None)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"KAFKA_TLS_CA: {authorities} holds no certificate that can be used: {_short(error)}. "
            "It must be a PEM file."
        ) from None
    if certificate:
        try:
            # A key that is encrypted would have OpenSSL ask for its password on the terminal.
            context.load_cert_chain(certificate, key or None, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"KAFKA_TLS_CERT: {certificate} with the key in {key or 'the same file'} cannot be used: "
                f"{_short(error)}. Both must be PEM, the key not encrypted, and they must belong together."
            ) from None
    return context


def _short(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


async def refusal(settings: Settings, brokers: Iterable[tuple[Any, ...]]) -> KafkaRefused | None:
    """Why brokers that listen do not let us in; None if none of them says so, since waiting may then help.

    aiokafka logs why a broker cannot be had and tells its caller only that none could.

    brokers  host, port, and whatever follows
    """
    if settings.kafka_security == "PLAINTEXT":
        return None  # There is nothing to refuse.
    for host, port, *_ in brokers:
        try:
            connection = await create_conn(host, port, request_timeout_ms=ASK_MS, **options(settings))
        except (KafkaError, OSError, ValueError, TimeoutError) as error:
            reason = next(filter(None, (_reason(each, settings) for each in _causes(error))), None)
            if reason:
                return KafkaRefused(f"Kafka at {host}:{port} {reason}")
        else:
            connection.close()
    return None


def _reason(error: BaseException, settings: Settings) -> str | None:
    """What an error of connecting says against the settings, as the end of a sentence; None if nothing."""
    way, user = f"KAFKA_SECURITY is {settings.kafka_security}", repr(settings.kafka_sasl_username)
    match error:
        case ssl.SSLCertVerificationError():
            return _of_certificate(error, settings)
        case ssl.SSLError(reason=str(reason)) if any(word in reason for word in _NO_TLS):
            return f"does not speak TLS there, but {way}: correct it, or the port."
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason and any(word in reason for word in _ALERTS):
            return _of_our_certificate(error, settings)
        case SaslAuthenticationFailed():
            return (
                f"refuses the user {user} ({settings.kafka_sasl_mechanism}): "
                "are KAFKA_SASL_USERNAME and the password right, and is the user known there with this mechanism?"
            )
        case UnsupportedSaslMechanismError():
            return f"does not take {settings.kafka_sasl_mechanism}: set KAFKA_SASL_MECHANISM to one that it offers."
        case IllegalSaslStateError():
            return f"asks for no user there, but {way}: correct it, or the port."
        case ValueError() if "Server " in str(error):
            # SCRAM proves both sides to each other; aiokafka has checked the broker's proof.
            return f"cannot prove that it knows the password of {user}: this is not our Kafka ({error})."
    return None


def _of_our_certificate(error: ssl.SSLError, settings: Settings) -> str:
    mended = "set KAFKA_TLS_CERT and KAFKA_TLS_KEY to what an authority of the broker's has signed."
    if settings.kafka_tls_cert:
        return f"refuses the certificate in {settings.kafka_tls_cert} ({_short(error)}): {mended}"
    return f"asks for a certificate of ours, and KAFKA_TLS_CERT is not set ({_short(error)}): {mended}"


def _of_certificate(error: ssl.SSLCertVerificationError, settings: Settings) -> str:
    said = f"shows a wrong certificate: {error.verify_message}."
    if error.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"{said} Name the broker in KAFKA_BOOTSTRAP_SERVERS as its certificate does, or renew the certificate."
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return f"{said} Renew it on the broker, or correct this machine's clock."
    signed = f"what {settings.kafka_tls_ca} signs" if settings.kafka_tls_ca else "what this system trusts"
    return f"{said} It is not {signed}: set KAFKA_TLS_CA to who signs the brokers' certificates."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, those it holds, and what each comes from."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    if error.__cause__:
        yield from _causes(error.__cause__)


def told(error: KafkaError) -> PostlogError:
    """What to tell whoever asked for something that Kafka did not do."""
    return denied(error) or PostlogError(f"Kafka refused: {error or type(error).__name__}")


def denied(error: BaseException) -> KafkaRefused | None:
    """What Kafka does not let us do, or does not take for its time, if that is what the error comes from."""
    return next(filter(None, map(_denied, _causes(error))), None)


def _denied(error: BaseException) -> KafkaRefused | None:
    match error:
        case TopicAuthorizationFailedError():
            return not_allowed("topic", *_names(error))
        case GroupAuthorizationFailedError():
            return not_allowed("group", *_names(error))
        case TransactionalIdAuthorizationFailed():
            return not_allowed("transactional id", *_names(error))
        case ClusterAuthorizationFailedError():
            # A producer that may write to no topic at all.
            return not_allowed("cluster")
        case InvalidTimestampError():
            return KafkaRefused(
                "Kafka refuses the time of our records: this machine's clock and the broker's are too far apart. "
                f"Correct the clock, and type {APPLY}: then the log gives the time ({BY_THE_LOG})."
            )
    return None


def not_allowed(kind: str, *names: str) -> KafkaRefused:
    """What is said when an ACL is missing, for one or several of a kind."""
    what = f"the {kind}{'s' if len(names) > 1 else ''} {', '.join(names)}".rstrip()
    return KafkaRefused(f"Kafka does not let us use {what}: postlog acls prints the ACLs that are needed.")


def _names(error: BaseException) -> list[str]:
    """The names that an error of aiokafka's carries: one, a set of them, or none."""
    given = error.args[0] if error.args else ()
    return sorted(given) if isinstance(given, set | frozenset | tuple) else [str(given)]
