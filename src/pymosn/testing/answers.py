"""What the clusters of a test respond, and the errors that it may contain."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from pymosn.core.errors import is_a
from pymosn.testing.messages import Down, Request, Response
from pymosn.testing.mistakes import InvalidTest, place_of, raise_as_mistake

#: The cluster of all requests for which no filter selects another.
SERVICE: Final = "service"

Answer = Response | Callable[[Request], Response | Awaitable[Response]]


class Answers:
    """The responses of the clusters, or functions that return or await them."""

    def __init__(self, upstream: Answer | None, clusters: Mapping[str, Answer] | None) -> None:
        """Raises InvalidTest for what cannot respond to a request."""
        if clusters is not None and not isinstance(clusters, Mapping):
            raise InvalidTest(f"clusters must be a dict by name, not {type(clusters).__name__}")
        if upstream is not None and SERVICE in (clusters or {}):
            raise InvalidTest(f"the responses of the cluster {SERVICE!r} are defined twice: by `upstream` and in `clusters`")
        self.by_name: dict[str, Answer] = {SERVICE: Response() if upstream is None else upstream, **(clusters or {})}
        #: Requests that the clusters received, in order.
        self.received: list[Request] = []
        for name, answer in self.by_name.items():
            _check(name, answer)

    async def ask(self, cluster: str, request: Request) -> Response:
        """The response to a request. Raises Down, InvalidTest for anything but a Response, and what ends a test."""
        self.received.append(request)
        answer = self.by_name[cluster]
        if isinstance(answer, Response):
            answer.check()
            return answer
        try:
            made: object = answer(request)
            if inspect.isawaitable(made):
                made = await made
        except Down:
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if is_a(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            raise_as_mistake(error, f"the function for the cluster {cluster!r}", answer)
        if not isinstance(made, Response):
            if asyncio.iscoroutine(made):
                made.close()
            found = "None" if made is None else f"{type(made).__name__} ({made!r:.60})"
            raise InvalidTest(f"the function for the cluster {cluster!r} returned {found}, not a Response", place_of(answer))
        made.check()
        return made


def _check(name: object, answer: object) -> None:
    """Raises InvalidTest for an answer that could not be called with a Request."""
    if not isinstance(name, str) or not name:
        raise InvalidTest(f"the name of a cluster must be text, not {name!r:.60}")
    if isinstance(answer, Response):
        return
    if not callable(answer) or isinstance(answer, type):
        raise InvalidTest(f"cluster {name!r}: expected a Response or a function of the Request, not {answer!r:.60}")
    if inspect.isgeneratorfunction(answer) or inspect.isasyncgenfunction(answer):
        raise InvalidTest(f"the function for the cluster {name!r} must return a Response, not yield", place_of(answer))
    try:
        signature = inspect.signature(answer)
    except ValueError:
        return  # a builtin has no signature
    try:
        signature.bind(Request())
    except TypeError as error:
        text = f"the function for the cluster {name!r} is called with one argument, the Request: {error}"
        raise InvalidTest(text, place_of(answer)) from None
