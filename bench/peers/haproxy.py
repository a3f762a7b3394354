"""HAProxy."""

from bench.cases import HTTP1, HTTP2
from bench.install import debian_tool
from bench.peers.base import Peer, Plan, first_line

CONFIG = """
global
  nbthread 1
  maxconn 8192

defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always

frontend front
  bind 127.0.0.1:{port}{tls}{front}
  option forwardfor
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Request-Id %[uuid()] unless {{ req.hdr(x-request-id) -m found }}
{filters}
  default_backend back

backend back
  server up 127.0.0.1:{upstream_port} pool-max-conn 128{back}
"""


class Haproxy(Peer):
    """Debian's HAProxy. Header rules replace the filters: a reference without scripting."""

    name = "haproxy"
    takes_streams = True
    ways = ((HTTP1, HTTP1), (HTTP2, HTTP1), (HTTP2, HTTP2))

    def __init__(self) -> None:
        self.program = debian_tool("haproxy")

    def version(self) -> str:
        return " ".join(first_line([self.program, "-v"]).split()[:3])

    def command(self, plan: Plan) -> list[str]:
        filters = "\n".join(
            f"  http-request set-header X-Bench-{k} %[req.hdr(x-user)]\n  http-response set-header X-Served-{k} bench"
            for k in plan.filter_numbers
        )
        path = plan.directory / "haproxy.cfg"
        certificate = plan.certificate
        tls = f" ssl crt {certificate.both} ssl-min-ver TLSv1.3" if certificate is not None else ""
        scheme = "https" if tls else "http"
        front, back = (" proto h2" if version == HTTP2 else "" for version in (plan.front, plan.back))
        if tls and front:
            tls += " alpn h2"
        ports = {"port": plan.port, "upstream_port": plan.upstream_port}
        path.write_text(CONFIG.format(**ports, filters=filters, tls=tls, scheme=scheme, front=front, back=back))
        return [self.program, "-db", "-f", str(path)]
