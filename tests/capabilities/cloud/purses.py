"""A fake purse: unlimited unless told otherwise, and remembers what happened to each ticket."""

from __future__ import annotations

from capabilities.cloud.purse import Bill, Claim, OverBudget


class FakePurse:
    def __init__(self, limit_nano: int | None = None) -> None:
        self.limit = limit_nano
        self.claims: list[Claim] = []
        self.went: list[str] = []
        self.bills: dict[str, Bill | None] = {}

    async def reserve(self, claim: Claim) -> str:
        if self.limit is not None and claim.nano > self.limit:
            raise OverBudget("the budget is spent", retry_after_s=60.0)
        self.claims.append(claim)
        return str(len(self.claims))

    async def sent(self, ticket: str) -> None:
        self.went.append(ticket)

    async def settle(self, ticket: str, bill: Bill) -> None:
        assert ticket not in self.bills
        self.bills[ticket] = bill

    async def release(self, ticket: str) -> None:
        assert ticket not in self.bills
        self.bills[ticket] = None

    def shut_s(self, nano: int, groups: tuple[str, ...]) -> float:
        return 60.0 if self.limit is not None and nano > self.limit else 0.0
