"""nginx as a proxy."""

import os
import pwd
import subprocess
import time
from pathlib import Path

from bench import measure
from bench.cases import HTTP1, HTTP2, host_name
from bench.install import debian_tool
from bench.peers.base import Peer, Plan, first_line
from bench.void import Unavailable

CONFIG = """
{user}
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  gzip off;
  keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  map $http_x_request_id $the_request_id {{ default $http_x_request_id; "" $request_id; }}
  upstream up {{ server 127.0.0.1:{upstream_port}; keepalive 128; keepalive_requests 1000000000; }}
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Request-Id $the_request_id;
{filters}
  server_names_hash_max_size 65536;
  server_names_hash_bucket_size 128;
{servers}
}}
"""

SERVER = """
  server {{
    listen 127.0.0.1:{port}{options};
    server_name {name};
    location / {{ proxy_pass http://up; }}
  }}
"""

TLS = " ssl; ssl_certificate {0.chain}; ssl_certificate_key {0.key}; ssl_protocols TLSv1.3"


class Nginx(Peer):
    """Debian's nginx. Header directives replace the filters: a reference without scripting."""

    name = "nginx"
    takes_hosts = True
    ways = ((HTTP1, HTTP1), (HTTP2, HTTP1))

    def __init__(self) -> None:
        self.program = debian_tool("nginx")

    def version(self) -> str:
        return first_line([self.program, "-v"]).replace("nginx version: ", "")

    def command(self, plan: Plan) -> list[str]:
        filters = "\n".join(
            f"  proxy_set_header X-Bench-{k} $http_x_user; add_header X-Served-{k} bench;" for k in plan.filter_numbers
        )
        names = [host_name(index) for index in range(plan.hosts)] or ["_"]
        options = " http2" if plan.front == HTTP2 else ""
        if plan.certificate is not None:
            options += TLS.format(plan.certificate)
        servers = "".join(SERVER.format(port=plan.port, options=options, name=name) for name in names)
        text = CONFIG.format(user=user_line(), upstream_port=plan.upstream_port, filters=filters, servers=servers)
        return nginx_command(self.program, plan.directory, text)

    def split(self, process: subprocess.Popen[bytes]) -> tuple[list[int], list[int]]:
        # The socket is open before the worker exists, with thousands of servers considerably earlier.
        deadline = time.monotonic() + 10
        workers = measure.children(process.pid)
        while not workers and time.monotonic() < deadline:
            time.sleep(0.02)
            workers = measure.children(process.pid)
        if len(workers) != 1:
            raise Unavailable(f"nginx has {len(workers)} workers instead of 1")
        return workers, [process.pid]


def nginx_command(program: str, directory: Path, config: str) -> list[str]:
    """Writes `config`; returns the command that runs nginx with it and with all its files in `directory`."""
    path = directory / "nginx.conf"
    path.write_text(config)
    return [program, "-p", str(directory), "-c", str(path), "-e", "stderr"]


def user_line() -> str:
    """The directive that keeps the user of this process for the worker; nginx accepts it only from root."""
    return f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
