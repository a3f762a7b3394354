"""`token_budget`, pymosn's own: the tokens that each client of language models may use in a period."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, ClassVar, Final

import msgspec

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.failure import ACCESS_DENIED, CLIENT_GONE, CLIENT_WRITE_TIMEOUT, RATE_LIMITED, UPSTREAM_TIMEOUT
from pymosn.filters.settings import Duration, Positive, StrictBlock, Unsigned, own
from pymosn.filters.spec import FilterSpec, RouteSpec
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.request_key import RequestKey
from pymosn.filters.stream.token_count import Counter, StreamCounter, counter_for
from pymosn.filters.stream.token_ledger import Ledger, Rejected, Use
from pymosn.filters.stream.token_usage import MOST, Usage, number
from pymosn.upstream.limits import worker_share

NAME: Final = "token_budget"
#: The longest period, in seconds.
LONGEST: Final = 366 * 86400.0
COUNTS: Final = ("total", "output")
USED_UP: Final = "the token budget is used up"
#: Members of a request that limit the length of a response, and that ask for several.
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_TIMES: Final = ("n", "best_of")
#: Failures that a client can cause while a model works for it; it may set timeouts.
_LEFT: Final = (CLIENT_GONE, CLIENT_WRITE_TIMEOUT, UPSTREAM_TIMEOUT)


class BudgetSettings(StrictBlock, kw_only=True):
    """A budget: what a route may have of its own."""

    tokens: Annotated[int, own("per key in each `per`; each worker has its share")] = 0
    per: Annotated[Duration, own("the period; it begins with a key's first request")] = 3600.0
    count: Annotated[str, own("total (input and output) or output")] = "total"
    key: Annotated[str, own("all, client (IP address; of IPv6 its /64), path or header")] = "header"
    header: Annotated[str, own("name of the header for `key: header`, such as the one that api_key_auth sets")] = ""
    without_header: Annotated[str, own("requests without the header: reject (401) or client (counted by address)")] = (
        "reject"
    )
    token_size: Annotated[float, own("bytes of text (UTF-8) per token, for estimates")] = 4.0
    reserve: Annotated[
        bool, own("reserve the tokens that a request asks for (`max_tokens`, ...) until it ends; its body is buffered")
    ] = False
    reserve_default: Annotated[Unsigned, own("how many, for a request that does not say")] = 0
    max_body: Annotated[Positive, own("bytes of a request with `reserve`; longer ones get 413")] = 1024 * 1024
    cut: Annotated[bool, own("end an event stream when the budget is used up; false: at its own end")] = True
    max_keys: Annotated[Positive, own("keys in a worker; above that, new keys get 429 until a period ends")] = 100_000
    name: Annotated[str, own("separates budgets with otherwise equal settings, which would be one")] = ""


class Settings(BudgetSettings, kw_only=True):
    """`token_budget`: the tokens that each client of language models may use in a period."""


class RouteSettings(BudgetSettings, kw_only=True):
    """`per_filter_config.token_budget`."""

    disabled: Annotated[bool, own("requests of this route are not counted")] = False


class Budget:
    """Checked settings."""

    def __init__(self, settings: BudgetSettings, is_disabled: bool = False) -> None:
        """Raises FilterConfigError."""
        problems = Problems()
        self.is_disabled = is_disabled
        self.settings = settings
        #: Equal for routes that share a budget.
        self.identity = msgspec.json.encode(settings)
        if not is_disabled:
            self.key = RequestKey(settings.key, settings.header, settings.without_header, problems)
            problems.require(1 <= settings.tokens <= MOST, ".tokens", f"must be 1 to {MOST}")
        problems.require(0 < settings.per <= LONGEST, ".per", f"must be up to {LONGEST:g} seconds, not 0")
        problems.one_of(".count", settings.count, COUNTS)
        text = "must be 0.1 to 1000"
        problems.require(0.1 <= settings.token_size <= 1000, ".token_size", text)
        problems.require(settings.reserve or not settings.reserve_default, ".reserve_default", "only valid with `reserve`")
        problems.end()

    def asked(self, body: bytes) -> int:
        """The tokens that a request may use, according to itself."""
        settings = self.settings
        try:
            request: Any = json.loads(body, object_pairs_hook=_largest, parse_int=_integer) if body else None
        except (ValueError, RecursionError):
            request = None
        members = request if isinstance(request, dict) else {}
        limits = [found for name in _LIMITS if (found := asked_number(members.get(name))) is not None]
        times = max([1, *(asked_number(members.get(name)) or 1 for name in _TIMES)]) * _prompts(members.get("prompt"))
        output = max(limits) * times if limits else settings.reserve_default
        return output + (self.input_estimate(len(body)) if settings.count == "total" else 0)

    def input_estimate(self, size: int) -> int:
        """The tokens of a request's body of `size` bytes, if they count."""
        return math.ceil(size / self.settings.token_size) if self.settings.count == "total" else 0

    def tokens(self, counter: Counter | None, request_size: int, is_whole: bool) -> int:
        """What a response used. Unless `is_whole`, its own count is not final, so an estimate counts if it is higher."""
        usage = Usage() if counter is None else counter.usage
        estimate = 0 if counter is None else counter.output
        output = usage.output or (usage.total - usage.input if usage.input else 0)
        if not output or not is_whole:
            output = max(output, estimate)
        if self.settings.count == "output":
            return output
        if not usage.input and not usage.output:
            # Nothing at all, or only a total.
            return usage.total if usage.total and is_whole else self.input_estimate(request_size) + output
        return max(usage.total, (usage.input or self.input_estimate(request_size)) + output)


def asked_number(value: object) -> int | None:
    """A number in a request, at most MOST: an upstream may take a larger one for its own maximum. None: not a number."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = _integer(value.strip())
    if isinstance(value, (int, float)) and value > MOST:
        return MOST
    return number(value)


def _integer(digits: str) -> int | float:
    """An integer; infinity for one with so many digits that Python refuses to read it, and with it the whole request."""
    return int(digits) if len(digits) < 100 else float(digits)


def _prompts(prompt: object) -> int:
    """How many prompts a request has: a list of texts, or of lists of tokens. A list of tokens is one."""
    return sum(isinstance(each, (str, list)) for each in prompt) or 1 if isinstance(prompt, list) else 1


def _largest(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a repeated member the highest number, because receivers differ in which one they use."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        before, after = asked_number(found.get(name)), asked_number(value)
        if before is None or (after is not None and after > before):
            found[name] = value
    return found


class _Exchange:
    """The state of an exchange."""

    def __init__(self, budget: Budget, ledger: Ledger, use: Use) -> None:
        self.budget = budget
        self.ledger = ledger
        self.use = use
        self.counter: Counter | None = None
        #: Whether the response counts: errors do not.
        self.counts = False
        self.is_whole = False
        #: Whether the budget was used up after the last whole event; a part of one is charged by its size, which is more.
        self.was_used_up: bool | None = None


class TokenBudgetFilter(StreamFilter):
    """Rejects requests of keys whose budget is used up, and ends their event streams. Each worker has its share.

    Cost per request: two dict operations. Responses are read as they pass: of event streams each event, of JSON up to 1 MiB
    until the end. `reserve` costs a task, and buffers requests. A key takes about 500 bytes.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._budget = Budget(settings)
        self._ledgers: dict[bytes, Ledger] = {}

    async def on_route(self, exchange: Exchange) -> Reply | None:
        of_route = self.context.route_config(exchange, NAME)
        budget = of_route if isinstance(of_route, Budget) else self._budget
        if budget.is_disabled:
            return None
        if exchange.request.tunnel:
            exchange.failure = ACCESS_DENIED
            exchange.failure_detail = "tokens within a tunnel cannot be counted"
            return Reply(403)
        key = budget.key.of(exchange)
        reserve = budget.asked(await exchange.request.read(budget.settings.max_body)) if budget.settings.reserve else 0
        now = self.context.clock.now
        ledger = self._ledger(budget, now)
        try:
            use = ledger.begin(key, reserve, now)
        except Rejected as rejected:
            return self._reject(exchange, rejected)
        exchange.state[NAME] = _Exchange(budget, ledger, use)
        exchange.request.headers.set("accept-encoding", "identity")  # compressed responses could only be estimated
        return None

    def _ledger(self, budget: Budget, now: float) -> Ledger:
        ledger = self._ledgers.get(budget.identity)
        if ledger is None:
            for identity, other in list(self._ledgers.items()):
                other.drop_expired(now)
                if not len(other):
                    del self._ledgers[identity]
            settings = budget.settings
            tokens = worker_share(settings.tokens, self.context.workers, self.context.worker)
            ledger = self._ledgers[budget.identity] = Ledger(tokens, settings.per, settings.max_keys)
        return ledger

    def _reject(self, exchange: Exchange, rejected: Rejected) -> Reply:
        self.context.counter("full" if rejected.is_full else "limited").value += 1
        exchange.failure = RATE_LIMITED
        exchange.failure_detail = "there are too many keys" if rejected.is_full else USED_UP
        error = {"error": {"message": USED_UP, "type": "rate_limit_error", "code": NAME}}
        headers = {"content-type": "application/json", "retry-after": str(max(1, math.ceil(rejected.wait)))}
        return Reply(429, json.dumps(error), headers)

    def on_response(self, exchange: Exchange) -> None:
        state = exchange.state.get(NAME)
        head = exchange.response_head
        if isinstance(state, _Exchange) and exchange.attempts > 0 and 200 <= head.status < 300:
            state.counts = True
            state.counter = counter_for(head.headers, state.budget.settings.token_size)
            if state.counter is not None:
                return
            state.is_whole = True
        exchange.skip_body(self)

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        state = exchange.state[NAME]
        assert isinstance(state, _Exchange)
        changed = None
        counter = state.counter
        if isinstance(counter, StreamCounter) and state.budget.settings.cut:
            changed = self._pass_events(exchange, state, counter, data)
        elif counter is not None:
            counter.feed(data)
        if last and counter is not None and changed is None:
            counter.finish()
            state.is_whole = True
        self._charge(exchange, state)
        return changed

    def _pass_events(self, exchange: Exchange, state: _Exchange, counter: StreamCounter, data: bytes) -> bytes | None:
        """Counts events. Ends the response before the first text beyond the budget, which a part of may have been sent."""
        if state.was_used_up is None:
            state.was_used_up = state.ledger.is_used_up(state.use)
        for event, has_text in counter.events(data):
            self._charge(exchange, state)
            if has_text and state.was_used_up:
                self.context.counter("cut").value += 1
                exchange.end_response()
                return data[: event.start if event.start >= 0 else event.end] + counter.ending(USED_UP)
            state.was_used_up = state.ledger.is_used_up(state.use)
        return None

    def _charge(self, exchange: Exchange, state: _Exchange) -> None:
        tokens = state.budget.tokens(state.counter, int(exchange.bytes_received), state.is_whole)
        self.context.counter("tokens").value += state.use.charge(tokens)

    def on_complete(self, exchange: Exchange) -> None:
        state = exchange.state.pop(NAME, None)
        if not isinstance(state, _Exchange):
            return
        if state.counts:
            self._conclude(exchange, state)
        if exchange.failure in _LEFT and exchange.attempts > 0 and not isinstance(state.counter, StreamCounter):
            # What the model has generated meanwhile is not known, only what it may have generated.
            use = state.use
            asked = max(use.charged + use.reserved, state.budget.input_estimate(int(exchange.bytes_received)))
            self.context.counter("tokens").value += use.charge(asked)
        state.ledger.end(state.use)

    def _conclude(self, exchange: Exchange, state: _Exchange) -> None:
        """Charges what a response used, complete or not."""
        counter = state.counter
        if counter is not None and not state.is_whole:
            counter.finish()
        self._charge(exchange, state)
        if counter is None or not counter.usage.total:
            self.context.counter("estimated").value += 1


def _of_route(settings: RouteSettings) -> Budget:
    return Budget(settings, settings.disabled)


_NOTE: Final = "pymosn's own: tokens of language models per client; also of a route; HTTP only"
SPEC: Final = FilterSpec(NAME, Settings, TokenBudgetFilter, _NOTE, route=RouteSpec(RouteSettings, _of_route), guards=True)
