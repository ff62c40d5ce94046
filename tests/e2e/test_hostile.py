"""What somebody who is not a provider may try, against a real ingress and a real Kafka."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.system import System, delivery, signature, until

FORMER, NEWER = "former-secret-0123", "newer-secret-4567"


async def test_a_secret_is_rotated_without_a_restart_or_a_refused_delivery(system: System, tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"{FORMER}\n")
    ingress = system.start("ingress", WEBHOOK_SECRET="", WEBHOOK_SECRET_FILE=str(file))
    await system.ready(ingress)
    secret, sent, answers, enough = FORMER, 0, set[int](), asyncio.Event()

    async def provider() -> None:
        nonlocal sent
        while not enough.is_set():
            body = delivery(f"e{sent}", "complained", f"{sent}@x.io")
            answers.add(await system.post(ingress, body, sign=signature(body, secret)))
            sent += 1

    async def known(secret: str, status: int) -> bool:
        return await system.post(ingress, b"{}", sign=signature(b"{}", secret)) == status

    sending = asyncio.create_task(provider())
    assert await known(NEWER, 401)
    file.write_text(f"{NEWER}\n{FORMER}\n")
    await until(lambda: known(NEWER, 200), "the newer secret counts")
    secret = NEWER
    seen = sent
    # Nothing that was signed with the former one is under way any more.
    await until(lambda: asyncio.sleep(0, sent > seen + 1), "a delivery is signed with the newer secret")
    file.write_text(f"{NEWER}\n")
    await until(lambda: known(FORMER, 401), "the former secret does not count any more")
    enough.set()
    await sending
    assert answers == {200}
    events = await system.records(system.topics.events)
    assert len({record.key for record in events}) == sent
