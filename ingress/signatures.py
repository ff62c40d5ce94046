"""Did somebody who holds our secret sign these bytes?

Pure. Every function returns if so and raises BadSignature if not: a boolean could be forgotten. Comparing takes the
same time wherever the first difference is, whichever of several secrets fits, and whatever bytes a header holds.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from pipeline.errors import BadSignature


def hmac_sha256_hex(body: bytes, *, signature: str | None, secrets: Sequence[bytes]) -> None:
    """Check a lowercase hex HMAC-SHA256 (RFC 2104) of the raw body.

    body       the raw request bytes: JSON parsed and dumped again will not match
    signature  header text, None if there was no header
    secrets    those valid now, several while rotating; at least one

    Raises BadSignature.
    """
    if not signature:
        raise BadSignature("no signature")
    given = signature.encode("utf-8", "surrogateescape")
    # No early exit: how long it takes must not tell which secret nearly fitted.
    matches = [hmac.compare_digest(hmac.digest(s, body, "sha256").hex().encode(), given) for s in secrets]
    if not any(matches):
        raise BadSignature("the signature does not match the body")
