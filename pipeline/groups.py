"""Why a consumer stays out of its group where waiting does not mend it.

aiokafka keeps such an error until somebody asks for it, and tries nothing more until then.
"""

from __future__ import annotations

from aiokafka import errors
from aiokafka.errors import (
    BrokerResponseError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaError,
    UnsupportedVersionError,
)

from pipeline import security
from pipeline.errors import ConfigError, KafkaTooOld


class GroupIsFullError(BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """GROUP_MAX_SIZE_REACHED, which aiokafka 0.14 does not know."""

    errno = 81
    message = "GROUP_MAX_SIZE_REACHED"
    description = "The group has as many members as the brokers allow."


errors.kafka_errors[GroupIsFullError.errno] = GroupIsFullError

#: Those that aiokafka wraps: of the error only its representation is left, in the text of another one.
_WRAPPED = (GroupIsFullError, UnsupportedVersionError)


def refusal(error: BaseException, group: str, *, timeout: str, others: str) -> ConfigError | None:
    """What a person must mend before the group can be joined; None if starting again may help.

    timeout  what our session timeout is and where it is set, as the begin of a sentence
    others   why another member may share the partitions out in another way than we do
    """
    match _unwrapped(error):
        case InvalidSessionTimeoutError():
            return ConfigError(
                f"{timeout}, and Kafka does not take that: it must lie between group.min.session.timeout.ms and "
                "group.max.session.timeout.ms of the brokers (6 s and 1800 s, if nobody changed them)."
            )
        case InconsistentGroupProtocolError():
            return ConfigError(
                f"the group {group} has members that share its partitions out in another way than we do: {others}. "
                "Stop those, or make them alike."
            )
        case GroupIsFullError():
            return ConfigError(
                f"the group {group} has as many members as the brokers allow (group.max.size): stop one, or raise it."
            )
        case GroupAuthorizationFailedError():
            return security.not_allowed("group", group)
        case UnsupportedVersionError() | IncompatibleBrokerVersion() | NotImplementedError():
            return KafkaTooOld(
                f"the brokers do not know what we ask them for to join the group {group}: use Kafka 2.5 to 4."
            )
    return None


def _unwrapped(error: BaseException) -> BaseException:
    """What an error is really about."""
    if error.__cause__ is not None:
        return _unwrapped(error.__cause__)
    if type(error) is KafkaError:
        return next((kind() for kind in _WRAPPED if repr(kind()) in error.args), error)
    return error
