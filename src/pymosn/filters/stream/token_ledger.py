"""What each key has used of its budget in one worker.

An account exists while its key has used something in the current period, or has requests in progress. No account is closed
before its period ends, so no flood of keys makes the worker forget one: when there is no room for
another account, new keys are rejected, and known ones continue.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

#: Seconds after which to try again when it is requests in progress that have reserved the rest.
SOON: Final = 1.0


class Account:
    """The tokens of one key: `used` in the period until `ends`, and `reserved` for `running` requests."""

    def __init__(self, key: str, ends: float) -> None:
        self.key = key
        self.ends = ends
        self.used = 0
        self.reserved = 0
        self.running = 0


class Use:
    """One request: what it has reserved and what it has used."""

    def __init__(self, account: Account, reserved: int) -> None:
        self.account = account
        self.reserved = reserved
        self.charged = 0

    def charge(self, tokens: int) -> int:
        """Makes `tokens` the number that the request has used so far; returns the difference."""
        difference = tokens - self.charged
        account = self.account
        account.used = max(0, account.used + difference)
        self.charged = tokens
        freed = min(self.reserved, max(0, difference))
        self.reserved -= freed
        account.reserved -= freed
        return difference


class Rejected(Exception):
    """There is nothing left. `wait`: seconds until there is; `is_full`: there is no room for another account."""

    def __init__(self, wait: float, is_full: bool = False) -> None:
        super().__init__(wait)
        self.wait = wait
        self.is_full = is_full


class Ledger:
    """The accounts of one budget."""

    def __init__(self, tokens: int, seconds: float, max_keys: int) -> None:
        """`tokens`: per key in each period of `seconds`."""
        self.tokens = tokens
        self._seconds = seconds
        self._max_keys = max_keys
        # In the order in which their periods end: all periods are equally long.
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def begin(self, key: str, reserve: int, now: float) -> Use:
        """Begins a request that will use `reserve` tokens at most, as far as known. Raises Rejected."""
        account = self._account(key, now)
        taken = account.used + account.reserved
        if taken + reserve > self.tokens or taken >= self.tokens:
            self._close(account)
            is_used_up = account.used + reserve > self.tokens or account.used >= self.tokens
            raise Rejected(account.ends - now if is_used_up else SOON)
        account.reserved += reserve
        account.running += 1
        return Use(account, reserve)

    def end(self, use: Use) -> None:
        """Ends a request."""
        account = use.account
        account.reserved -= use.reserved
        account.running -= 1
        use.reserved = 0
        self._close(account)

    def is_used_up(self, use: Use) -> bool:
        """Whether the budget has been used up meanwhile."""
        return use.account.used >= self.tokens

    def drop_expired(self, now: float) -> None:
        """Closes accounts whose period is over."""
        while self._accounts:
            account = next(iter(self._accounts.values()))
            if account.ends > now:
                return
            if account.running:
                self._renew(account, now)
            else:
                del self._accounts[account.key]

    def _account(self, key: str, now: float) -> Account:
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= self._max_keys:
                self.drop_expired(now)
            if len(self._accounts) >= self._max_keys:
                raise Rejected(next(iter(self._accounts.values())).ends - now, is_full=True)
            account = self._accounts[key] = Account(key, now + self._seconds)
        elif account.ends <= now:
            self._renew(account, now)
        return account

    def _renew(self, account: Account, now: float) -> None:
        account.used = 0
        account.ends = now + self._seconds
        self._accounts.move_to_end(account.key)

    def _close(self, account: Account) -> None:
        """Forgets an account that a new one would equal."""
        if account.used == 0 and account.running == 0:
            self._accounts.pop(account.key, None)
