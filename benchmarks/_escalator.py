"""One process of the budget benchmark: so many escalations at once, until done or killed.

``python -m benchmarks._escalator BOOK URL LIMIT_NANO COUNT`` prints "ready", waits for a line,
and prints what became of its escalations as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import aclosing
from pathlib import Path

from agents.budget.limits import Limit, Limits
from agents.budget.purse import BudgetPurse
from agents.budget.store import BudgetStore
from benchmarks._stand_in import KEY
from capabilities.cloud.client import Endpoint
from capabilities.cloud.failover import Asked, Cloud
from capabilities.cloud.keys import Secret
from capabilities.cloud.provider import Provider
from capabilities.cloud.purse import OverBudget
from capabilities.messages import Generate, Message
from mesh.core.errors import GossamerError

CALL_S = 20.0
# Four words are the stand-in's whole answer, so the answer costs its worst case; the prompt
# does not, which is what a settlement gives back.
BODY = Generate(messages=[Message("user", "How high is the tide at noon?")], max_tokens=4)


def provider(url: str) -> Provider:
    """The stand-in with prices; all that is known of it is in the figures."""
    return Provider(
        name="stand-in", base_url=url, model="fixed", prompt_price=1.0, completion_price=40.0
    )


async def main(book: str, url: str, limit: int, count: int) -> None:
    limits = Limits(node=Limit(day=limit))
    purse = BudgetPurse(lambda: BudgetStore(Path(book), limits))
    await purse.start()
    cloud = Cloud([Endpoint(provider(url), Secret(KEY))], purse)
    became: Counter[str] = Counter()

    async def one() -> None:
        asked = Asked(body=BODY, deadline=time.monotonic() + CALL_S)
        try:
            async with aclosing(cloud.answer(asked)) as events:
                async for _ in events:
                    pass
            became["answered"] += 1
        except OverBudget:
            became["over_budget"] += 1
        except GossamerError as error:
            became[error.code] += 1

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(one() for _ in range(count)))
    await cloud.close()
    await purse.stop()
    print(json.dumps(became), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
