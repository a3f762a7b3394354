"""The service of `shop.proto`, with messages made from `shop.pb`. Run `python service.py` to serve it on port 50051."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HERE = Path(__file__).parent


def messages() -> dict[str, Any]:
    """The classes of the messages in `shop.pb`, by name."""
    files = descriptor_pb2.FileDescriptorSet.FromString((HERE / "shop.pb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = ("Book", "GetBookRequest", "CreateBookRequest", "WatchBooksRequest")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shop.{name}")) for name in names}


class Shop:
    """Keeps books in memory."""

    def __init__(self) -> None:
        self.kinds = messages()
        self.books = {
            name: self.kinds["Book"](name=name, title=title, pages=pages)
            for name, title, pages in (
                ("shelves/1/books/1", "Emma", 474),
                ("shelves/1/books/2", "Persuasion", 249),
                ("shelves/2/books/1", "Walden", 352),
            )
        }

    def get(self, request: Any, context: Any) -> Any:
        book = self.books.get(request.name)
        if book is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no book {request.name}")
        return book

    def create(self, request: Any, context: Any) -> Any:
        book = request.book
        book.name = f"{request.parent}/books/{len(self.books) + 1}"
        self.books[book.name] = book
        return book

    def watch(self, request: Any, context: Any) -> Iterator[Any]:
        for book in list(self.books.values()):
            if book.name.startswith(f"{request.parent}/") and book.pages >= request.min_pages:
                yield book


def serve(port: int) -> Any:
    """Starts the service; the server. Its `stop(None)` ends it."""
    shop = Shop()

    def handler(kind: Any, method: Any, request: str) -> Any:
        return kind(method, shop.kinds[request].FromString, lambda message: message.SerializeToString())

    methods = {
        "GetBook": handler(grpc.unary_unary_rpc_method_handler, shop.get, "GetBookRequest"),
        "CreateBook": handler(grpc.unary_unary_rpc_method_handler, shop.create, "CreateBookRequest"),
        "WatchBooks": handler(grpc.unary_stream_rpc_method_handler, shop.watch, "WatchBooksRequest"),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", methods),))
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        raise SystemExit(f"port {port} is in use")
    server.start()
    return server


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 50051).wait_for_termination()
