"""`python -m bench.ext_proc PORT`: the header filter as an external processor of Envoy, on `grpcio.aio`.

It does the same as `bench.filters.HeaderFilter`; the metadata `number` distinguishes the filters of one listener.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as services


class HeaderProcessor(services.ExternalProcessorServicer):  # type: ignore[misc]
    """Processes the request and response headers of one exchange per stream."""

    async def Process(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """One exchange: the request headers, then the response headers."""
        number = dict(context.invocation_metadata())["number"]
        async for message in requests:
            if message.HasField("request_headers"):
                user = next((h.raw_value for h in message.request_headers.headers.headers if h.key == "x-user"), None)
                changed = _setting(f"x-bench-{number}", user) if user is not None else messages.HeadersResponse()
                yield messages.ProcessingResponse(request_headers=changed)
            elif message.HasField("response_headers"):
                yield messages.ProcessingResponse(response_headers=_setting(f"x-served-{number}", b"bench"))


def _setting(name: str, value: bytes) -> Any:
    option = HeaderValueOption(
        header=HeaderValue(key=name, raw_value=value), append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    )
    mutation = messages.HeaderMutation(set_headers=[option])
    return messages.HeadersResponse(response=messages.CommonResponse(header_mutation=mutation))


async def serve(port: int) -> None:
    """Serves until the process is ended."""
    server = grpc.aio.server()
    services.add_ExternalProcessorServicer_to_server(HeaderProcessor(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
