"""The upstream: one nginx worker on the load core, the HTTP server in Debian with the lowest and steadiest cost.

It answers HTTP/1.1 on one port and HTTP/2 on another.
"""

import re
from pathlib import Path

from bench.cases import HTTP1, HTTP2, MESSAGE, SMALL_BODY, UNARY_PATH, write_large_body
from bench.install import debian_tool
from bench.machine import free_port
from bench.peers.nginx import nginx_command, user_line
from bench.processes import Processes
from bench.verify import fetch

CONFIG = """
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  gzip off;
  sendfile on;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  default_type application/octet-stream;
  open_file_cache max=16;
  open_file_cache_valid 1h;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{http2_port} http2 backlog=4096;
    http2_max_concurrent_streams 1024;
    location = /small {{ return 200 "{small}"; }}
    location = /large {{ alias {large}; }}
    location = /seen {{ return 200 "{seen}"; }}
    location = /status {{ stub_status; }}
    location = {unary} {{ error_page 405 =200 /message; alias {message}; }}  # files are not there for POST
    location = /message {{
      internal;
      default_type application/grpc;
      etag off;
      max_ranges 0;
      add_trailer grpc-status 0;
      alias {message};
    }}
  }}
}}
"""

#: `/seen` returns the header fields that reached the upstream, one `name=value` per line.
SEEN_FIELDS = (
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "x-bench-1",
    "x-bench-2",
    "x-bench-3",
)


class Upstream:
    """Serves `/small`, `/large`, `/seen` and a gRPC method, and counts the requests that reach it."""

    def __init__(self, processes: Processes, core: int) -> None:
        """Raises Unavailable if nginx cannot be found, installed or started."""
        directory = processes.directory / "upstream"
        directory.mkdir()
        self.port = free_port()
        #: The port for each version of HTTP.
        self.ports = {HTTP1: self.port, HTTP2: free_port()}
        command = nginx_command(debian_tool("nginx"), directory, _configuration(directory, self.ports))
        process = processes.start("upstream", command, core)
        processes.wait_for_port("upstream", process, self.port)

    def requests(self) -> int:
        """The number of requests received so far, including this query."""
        _, body = fetch(self.port, "/status", {"Connection": "close"})
        found = re.search(rb"\n\s*\d+ \d+ (\d+)", body)
        assert found is not None, body
        return int(found[1])


def _configuration(directory: Path, ports: dict[str, int]) -> str:
    large, message = directory / "large", directory / "message"
    write_large_body(large)
    message.write_bytes(MESSAGE)
    return CONFIG.format(
        user=user_line(),
        port=ports[HTTP1],
        http2_port=ports[HTTP2],
        large=large,
        unary=UNARY_PATH,
        message=message,
        small=SMALL_BODY.decode().replace("\r", "\\r").replace("\n", "\\n"),
        seen="".join(f"{name}=$http_{name.replace('-', '_')}\\n" for name in SEEN_FIELDS),
    )
