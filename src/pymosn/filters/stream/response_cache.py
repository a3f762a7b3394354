"""`response_cache`, pymosn's own: a shared cache in each worker's memory (RFC 9111).

Theory of operation. A request is looked up in `on_host`, the last phase before the upstream: by then all filters have
let it pass, wherever they are in the chain, and everything that they and the route decided about it is part of the key
(`cache_key`). A hit is an empty reply at first, which `on_response` replaces by the stored response, so that neither
later filters nor the route change it a second time. A response is collected as it passes, and stored with its last chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from email.utils import formatdate
from typing import ClassVar, Final

from pymosn.api.exchange import Exchange, Reply
from pymosn.api.http import HttpResponse
from pymosn.api.stream_filter import StreamFilter
from pymosn.core import failure as failures
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.cache_directives import policy_of, same_etag, wishes_of
from pymosn.filters.stream.cache_flights import GO, LEAD, Flights
from pymosn.filters.stream.cache_key import KeyRules, choices_of, is_ambiguous, target_at, target_of
from pymosn.filters.stream.cache_lookup import NOT_STORED, Filling, Lookup, is_usable, respond, updated, vary_of
from pymosn.filters.stream.cache_settings import Settings, check
from pymosn.filters.stream.cache_store import Entry, Store

#: Statuses that are stored if their lifetime is explicit.
STATUSES: Final = frozenset((200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501))
#: Those in whose place a stale response is used (RFC 5861 section 4).
ERRORS: Final = frozenset((500, 502, 503, 504))
#: Likewise failures of the upstream. Those of filters and of the client are never answered from the cache.
UPSTREAM_FAILURES: Final = (
    *(failures.NO_HOSTS, failures.ALL_UNHEALTHY, failures.OVERFLOW, failures.CONNECT_REFUSED, failures.CONNECT_TIMEOUT),
    *(failures.CONNECT_FAILED, failures.RESET_BEFORE_RESPONSE, failures.RESET_AFTER_RESPONSE, failures.BAD_RESPONSE),
    failures.UPSTREAM_TIMEOUT,
)
#: Seconds for which requests do not wait for each other after a response that could not be stored.
PASS_TIME: Final = 10.0


class ResponseCacheFilter(StreamFilter):
    """Answers GET and HEAD from memory where RFC 9111 allows a shared cache to do so.

    Cost per request: header lookups and digests (20 us), and for a hit a copy of the stored head. Requests that wait for
    another one cost a task.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")
    changes_length: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        check(settings)
        self._settings = settings
        self._rules = KeyRules(settings.key_headers, settings.identity_headers, settings.ignored_cookies, settings.unkeyed)
        self.store = Store(settings.max_bytes, settings.max_variants)
        self.flights = Flights()
        # Unique per filter, because a listener may have two of them.
        self._state = f"response_cache {id(self)}"
        #: Requests whose responses are on their way, by target: a change of the target makes them outdated.
        self._on_their_way: dict[bytes, set[Lookup]] = {}

    # ---- the request

    def on_host(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        if exchange.attempts > 1:
            return None  # a retry
        lookup = self._lookup(exchange)
        return None if lookup is None else self._answer(exchange, lookup)

    def _lookup(self, exchange: Exchange) -> Lookup | None:
        """The lookup of a request; None if the cache has nothing to do with it."""
        request = exchange.request
        headers = request.headers
        now = self.context.clock.now
        if len(request.raw_tunnel) > 0 or exchange.transcoded_to:
            return None
        if request.raw_method not in (b"GET", b"HEAD"):
            if request.raw_method not in (b"OPTIONS", b"TRACE"):
                lookup = Lookup(exchange, b"", target_of(request), wishes_of(headers), now)
                lookup.outcome = "fwd=method"
                exchange.state[self._state] = lookup
            return None
        wishes = wishes_of(headers)
        passes = (
            wishes.no_store or request.content_length != 0 or self._rules.has_cookies(exchange) or is_ambiguous(exchange)
        )
        if passes or any(name in headers for name in ("range", "if-match", "if-unmodified-since")):
            self.context.counter("bypass").value += 1
            return None
        client = self.clusters.get(exchange.cluster_name)
        follows_client = client is not None and client.follows_client()
        key = self._rules.key_of(exchange, exchange.upstream_address if follows_client else "")
        lookup = Lookup(exchange, key, target_of(request), wishes, now)
        lookup.has_credentials = self._rules.has_credentials(exchange)
        lookup.choices = choices_of(exchange)
        exchange.state[self._state] = lookup
        return lookup

    def _answer(self, exchange: Exchange, lookup: Lookup) -> Reply | Awaitable[Reply | None] | None:
        """Answers a request from the cache, makes it wait, or lets it pass to the upstream."""
        if self._find(lookup):
            return self._hit(exchange, lookup)
        if lookup.wishes.only_if_cached:
            lookup.is_answered = True
            exchange.upstream_address = ""
            return Reply(504, "not cached\n")
        if not self._may_lead(lookup):
            self._forward(exchange, lookup)
            return None
        values = self._known_values(lookup)
        flight = self.flights.join(lookup.key, values, lookup)
        lookup.flight = flight
        if flight.leader is lookup:
            self._forward(exchange, lookup)
            return None
        if self._may_use_stale(lookup):
            lookup.flight = None
            lookup.found = lookup.stale
            return self._hit(exchange, lookup)
        return self._wait(exchange, lookup, asyncio.get_running_loop().time() + self._settings.wait)

    def _find(self, lookup: Lookup) -> bool:
        """Finds a stored response that answers the request now; a stale one is kept in `lookup.stale`."""
        now = self.context.clock.now
        lookup.stale = None
        entries = self.store.entries(lookup.key)
        for entry in entries:
            if lookup.matches(entry):
                if lookup.has_credentials and not entry.policy.for_everyone:
                    lookup.outcome = "fwd=bypass"
                    return False
                if is_usable(entry, lookup, now):
                    lookup.found = entry
                    return True
                lookup.stale = entry
                lookup.outcome = "fwd=request" if entry.is_fresh(now) else "fwd=stale"
                return False
        lookup.outcome = "fwd=vary-miss" if entries else "fwd=uri-miss"
        return False

    def _may_lead(self, lookup: Lookup) -> bool:
        """Whether others may wait for this request's response, and it for theirs."""
        if self._settings.wait <= 0 or not lookup.is_get or lookup.has_credentials or lookup.wishes.no_cache:
            return False
        if lookup.is_conditional and (lookup.stale is None or not lookup.stale.has_validator()):
            return False  # its response may be a 304
        return not self.store.is_passed(lookup.key, self.context.clock.now)

    def _known_values(self, lookup: Lookup) -> tuple[tuple[bytes | None, bytes | None], ...]:
        """The request's values of the fields that the response is known to depend on."""
        entries = self.store.entries(lookup.key)
        return tuple(lookup.values(name) for name, _ in entries[0].vary) if entries else ()

    def _may_use_stale(self, lookup: Lookup) -> bool:
        """Whether the stale response is used while another request revalidates it (RFC 5861 section 3)."""
        stale, wishes = lookup.stale, lookup.wishes
        if stale is None or stale.policy.never_stale or wishes.min_fresh > 0.0:
            return False
        now = self.context.clock.now
        return stale.staleness(now) < stale.policy.while_revalidate and stale.age(now) <= wishes.max_age

    async def _wait(self, exchange: Exchange, lookup: Lookup, deadline: float) -> Reply | None:
        """Waits for the response to another request."""
        lookup.has_waited = True
        while lookup.flight is not None:
            outcome = await self.flights.wait(lookup.flight, lookup, deadline)
            self.context.clock.tick()
            if outcome == LEAD:
                break
            lookup.flight = None
            if outcome == GO:
                break
            if self._find(lookup):
                self.context.counter("coalesced").value += 1
                return self._hit(exchange, lookup)
            if not self._may_lead(lookup):
                break
            flight = self.flights.join(lookup.key, self._known_values(lookup), lookup)
            lookup.flight = flight
            if flight.leader is lookup:
                break
        self._forward(exchange, lookup)
        return None

    def _hit(self, exchange: Exchange, lookup: Lookup) -> Reply:
        """An empty reply, which becomes the stored response in `on_response`."""
        assert lookup.found is not None
        now = self.context.clock.now
        self.context.counter("hit" if lookup.found.is_fresh(now) else "stale").value += 1
        lookup.outcome = f"hit; ttl={int(-lookup.found.staleness(now))}"
        lookup.is_answered = True
        exchange.upstream_address = ""  # it was chosen, but gets no request
        exchange.response_received = now  # for other filters: what follows was made by the upstream
        return Reply(200)

    def _forward(self, exchange: Exchange, lookup: Lookup) -> None:
        """Prepares the request for the upstream."""
        self.context.counter("miss").value += 1
        lookup.sent = self.context.clock.now
        self._on_their_way.setdefault(lookup.target, set()).add(lookup)
        stale = lookup.stale
        if stale is None or not lookup.is_get or not stale.has_validator():
            return
        lookup.is_revalidation = True
        headers = exchange.request.headers
        for name, validator in (("if-none-match", "etag"), ("if-modified-since", "last-modified")):
            headers.remove(name)
            value = stale.headers.get(validator)
            if value is not None:
                headers.set(name, value)

    # ---- the response

    def on_response(self, exchange: Exchange) -> Reply | None:
        lookup = exchange.state.get(self._state)
        reply = None
        if isinstance(lookup, Lookup):
            self._abandon(lookup)  # a response that another one replaces
            reply = self._on_response(exchange, lookup)
        elif exchange.failure in (failures.NO_HOSTS, failures.ALL_UNHEALTHY) and exchange.attempts == 0:
            lookup = self._on_no_host(exchange)
        if not isinstance(lookup, Lookup) or lookup.filling is None:
            exchange.skip_body(self)
        if self._settings.cache_status and reply is None and (lookup is not None or exchange.response_received > 0.0):
            outcome = lookup.status() if isinstance(lookup, Lookup) else "fwd=bypass"
            exchange.response_head.headers.add("Cache-Status", f"{self._settings.cache_status}; {outcome}")
        return reply

    def _on_no_host(self, exchange: Exchange) -> Lookup | None:
        """No host could be chosen, so `on_host` was not called."""
        client = self.clusters.get(exchange.cluster_name)
        if client is None or client.follows_client():
            return None
        lookup = self._lookup(exchange)
        if lookup is None:
            return None
        if self._find(lookup):
            self._hit(exchange, lookup)
            exchange.failure = None
            self._respond(exchange, lookup, lookup.found)
        else:
            self._use_on_error(exchange, lookup)
        return lookup

    def _on_response(self, exchange: Exchange, lookup: Lookup) -> Reply | None:
        head = exchange.response_head
        is_upstreams = exchange.failure is None and exchange.response_received > 0.0 and not lookup.is_answered
        if not lookup.key:
            if is_upstreams and 200 <= head.status < 400:
                self._invalidate(exchange, lookup)
        elif lookup.is_answered:
            self._respond(exchange, lookup, lookup.found)
        elif not is_upstreams or head.status in ERRORS:
            self._on_failed(exchange, lookup, is_upstreams)
        elif head.status == 304 and lookup.is_revalidation and lookup.stale is not None:
            return self._on_valid(exchange, lookup, lookup.stale)
        elif head.status != 304 and lookup.is_get:
            self._on_new(exchange, lookup)
        return None

    def _respond(self, exchange: Exchange, lookup: Lookup, entry: Entry | None) -> None:
        if entry is not None:
            respond(exchange, lookup, entry, self.context.clock.now)

    def _on_failed(self, exchange: Exchange, lookup: Lookup, is_upstreams: bool) -> None:
        """The upstream failed, or another filter has replied."""
        if is_upstreams or exchange.failure in UPSTREAM_FAILURES:
            self._use_on_error(exchange, lookup)
        if lookup.flight is None:
            return
        if is_upstreams:
            self.flights.release(lookup.flight, lookup)
        else:
            self.flights.leave(lookup.flight, lookup)  # the next one tries: all of them at once could make it worse
        lookup.flight = None

    def _use_on_error(self, exchange: Exchange, lookup: Lookup) -> None:
        """Responds with the stale response, if it may be used in place of an error (RFC 5861 section 4)."""
        stale, wishes = lookup.stale, lookup.wishes
        now = self.context.clock.now
        if stale is None or stale.policy.never_stale or wishes.no_cache or stale.age(now) > wishes.max_age:
            return
        if stale.staleness(now) < stale.policy.if_error:
            self.context.counter("stale").value += 1
            lookup.outcome = f"hit; ttl={int(-stale.staleness(now))}"
            exchange.failure = None
            exchange.response_received = now
            respond(exchange, lookup, stale, now)

    def _on_valid(self, exchange: Exchange, lookup: Lookup, stale: Entry) -> Reply | None:
        """The stored response is still valid: the 304 updates it."""
        head = exchange.response_head
        old, new = stale.headers.get("etag"), head.headers.get("etag")
        if new is not None and (old is None or not same_etag(old, new)):
            # It is about another response than the one that was asked about, and the client has not asked for a 304.
            self.store.remove(lookup.key, stale)
            self._end_flight(lookup)
            exchange.failure = failures.BAD_RESPONSE
            return Reply(502)
        self.context.counter("revalidated").value += 1
        headers = updated(stale.headers, head.headers)
        entry = self._entry(exchange, lookup, stale.status, headers)
        if entry is None:
            self.store.remove(lookup.key, stale)
            self._end_flight(lookup)
            entry = Entry(stale.status, headers, stale.body, (), stale.policy, self.context.clock.now)
        else:
            entry.body = stale.body
            self._keep(lookup, entry)
        self._respond(exchange, lookup, entry)
        return None

    def _on_new(self, exchange: Exchange, lookup: Lookup) -> None:
        """A response of the upstream, which is stored if it may be."""
        head = exchange.response_head
        length = int(head.content_length) if head.new_body is None else len(head.new_body)
        entry = self._entry(exchange, lookup, int(head.status), head.headers)
        ends_with_connection = isinstance(head, HttpResponse) and head.until_close and head.new_body is None
        if entry is None or length > self._settings.max_entry_bytes or ends_with_connection:
            if lookup.stale is not None:
                self.store.remove(lookup.key, lookup.stale)
            if lookup.flight is not None:
                self.store.pass_by(lookup.key, lookup.target, self.context.clock.now + PASS_TIME)
            self._end_flight(lookup)
        elif not exchange.request.has_response_body(head):
            self._keep(lookup, entry)
        else:
            lookup.filling = Filling(entry, head)
            if not entry.is_fresh(self.context.clock.now):
                self._end_flight(lookup)  # the others have to ask for themselves in any case

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        lookup = exchange.state.get(self._state)
        filling = lookup.filling if isinstance(lookup, Lookup) else None
        if not isinstance(lookup, Lookup) or filling is None:
            return None
        head = exchange.response
        size = len(data)
        is_same = head is filling.head and head.new_body is filling.replaced
        if not is_same or filling.size + size > self._settings.max_entry_bytes or not self.store.reserve(size):
            self.context.counter("not_stored" if is_same else "replaced").value += 1
            self._abandon(lookup)
            self._end_flight(lookup)
            return None
        filling.size += size
        filling.chunks.append(data)
        if last:
            self._complete(lookup, filling, filling.head)
        return None

    def _complete(self, lookup: Lookup, filling: Filling, head: ResponseHead) -> None:
        entry = filling.entry
        entry.body = b"".join(filling.chunks)
        self._abandon(lookup)
        # Trailers cannot be stored, and may say that the response has failed.
        if head.trailers is None and not lookup.is_outdated:
            self._keep(lookup, entry)
        else:
            self._end_flight(lookup)

    def on_complete(self, exchange: Exchange) -> None:
        lookup = exchange.state.pop(self._state, None)
        if not isinstance(lookup, Lookup):
            return
        self._abandon(lookup)
        if lookup.flight is not None:
            self.flights.leave(lookup.flight, lookup)
        same = self._on_their_way.get(lookup.target)
        if same is not None:
            same.discard(lookup)
            if not same:
                del self._on_their_way[lookup.target]
        self._count_bytes()

    # ---- storing

    def _entry(self, exchange: Exchange, lookup: Lookup, status: int, headers: Headers) -> Entry | None:
        """An entry for a response to the request, still without its body; None if it must not be stored."""
        clock = self.context.clock
        if status not in STATUSES or lookup.is_outdated or exchange.request.raw_method != b"GET":
            return None
        if any(name in headers for name in ("set-cookie", "set-cookie2", "content-range")):
            return None
        wall = clock.wall()
        policy = policy_of(headers, wall, max(0.0, clock.now - lookup.sent), self._settings.max_ttl)
        vary = vary_of(exchange, lookup, headers)
        if policy is None or vary is None or self._is_changed(exchange, lookup):
            return None
        if lookup.has_credentials and not policy.for_everyone:
            return None
        stored = headers.copy()
        stored.remove_named(NOT_STORED)
        if "date" not in stored:
            stored.set("Date", formatdate(wall, usegmt=True))
        entry = Entry(status, stored, b"", vary, policy, clock.now)
        return entry if entry.is_useful(clock.now) else None

    def _is_changed(self, exchange: Exchange, lookup: Lookup) -> bool:
        """Whether a filter has decided something about the request since the lookup, so that the key does not contain it."""
        request = exchange.request
        if choices_of(exchange) != lookup.choices or (request.raw_path, request.raw_query) != lookup.path:
            return True
        return (exchange.own_variables or {}) != lookup.variables or self._rules.has_late_changes(exchange, lookup.current)

    def _keep(self, lookup: Lookup, entry: Entry) -> None:
        """Stores a response and gives it to the requests that wait for it."""
        self.store.add(lookup.key, lookup.target, entry)
        self.context.counter("stored").value += 1
        if not entry.is_fresh(self.context.clock.now):
            self._end_flight(lookup)
            return
        if lookup.flight is not None:
            self.flights.land(lookup.flight, lookup)
            lookup.flight = None
        self.flights.on_stored(lookup.key)

    def _end_flight(self, lookup: Lookup) -> None:
        """There will be no response for those that wait."""
        if lookup.flight is not None:
            self.flights.release(lookup.flight, lookup)
            lookup.flight = None

    def _abandon(self, lookup: Lookup) -> None:
        """Stops collecting a response."""
        if lookup.filling is not None:
            self.store.release(lookup.filling.size)
            lookup.filling = None

    def _invalidate(self, exchange: Exchange, lookup: Lookup) -> None:
        """An unsafe method succeeded: removes what is stored for its target, and for those in its response."""
        targets = [lookup.target]
        for name in ("location", "content-location"):
            for location in exchange.response_head.headers.get_all(name):
                other = target_at(exchange.request, location)
                if other is not None:
                    targets.append(other)
        for target in targets:
            self.store.invalidate(target)
            for late in self._on_their_way.get(target, ()):
                late.is_outdated = True
        self.context.counter("invalidated").value += 1

    def _count_bytes(self) -> None:
        self.context.gauge("bytes").value = self.store.size
        self.context.counter("evicted").value = self.store.evicted


_NOTE: Final = "pymosn's own: RFC 9111, in memory"
SPEC: Final = FilterSpec("response_cache", Settings, ResponseCacheFilter, _NOTE, guards=True)
