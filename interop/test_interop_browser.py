"""Chromium loads a page over HTTPS, with resources, an upload and a WebSocket. It trusts only the CA of its profile.

Over HTTP/2, all of them share one connection, the WebSocket too (RFC 8441).
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import PATIENCE, READY, free_ports
from tests.system.thread_server import HttpServer
from tests.system.tls_peers import config_of, listener_of, proxy_filter, table_of
from tests.system.web_sockets import Echo

from interop.tls import Files

IMAGES = 12
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PIXEL = base64.b64decode(_PNG)
STYLE = "body { background: rgb(0, 90, 160); color: white; font: 20px sans-serif } img { width: 40px; height: 40px }"
PAGE = f"""<!doctype html><title>pymosn</title><link rel=stylesheet href=/style.css><h1>Served over TLS</h1>
{"".join(f"<img src=/{number}.png>" for number in range(IMAGES))}<pre></pre><script src=/script.js></script>"""
#: Every check adds its result. The last image is served after the report of them all, and the screenshot comes after it.
SCRIPT = """
const results = {};
const tell = (name, value) => {
  results[name] = value;
  document.querySelector("pre").textContent = JSON.stringify(results, null, 1);
  if (Object.keys(results).length === 6) fetch("/report", { method: "POST", body: JSON.stringify(results) });
};
const images = [...document.images];
Promise.all(images.map((image) => image.decode())).then(() => {
  tell("images", images.filter((image) => image.naturalWidth === 1).length);
  tell("style", getComputedStyle(document.body).backgroundColor);
});
tell("protocol", performance.getEntriesByType("navigation")[0].nextHopProtocol);
fetch("/big").then((response) => response.arrayBuffer()).then((body) => tell("big", body.byteLength));
fetch("/upload", { method: "POST", body: new Uint8Array(500000) })
  .then((response) => response.text()).then((text) => tell("upload", text));
const socket = new WebSocket(`wss://${location.host}/echo`);
let echoed = "";
socket.onopen = () => ["one", "two", "three"].forEach((word) => socket.send(word));
socket.onmessage = (message) => { echoed += message.data; if (echoed === "onetwothree") socket.close(); };
socket.onclose = (end) => tell("socket", `${echoed} ${end.wasClean}`);
document.body.append(Object.assign(new Image(), { src: "/last.png" }));
"""
RESULTS = {"images": IMAGES, "style": "rgb(0, 90, 160)", "big": 3_000_000, "upload": "500000", "socket": "onetwothree true"}
CONTENT = {
    "/": ("text/html", PAGE.encode()),
    "/style.css": ("text/css", STYLE.encode()),
    "/script.js": ("text/javascript", SCRIPT.encode()),
    "/big": ("application/octet-stream", bytes(RESULTS["big"])),
}


class Site(http.server.BaseHTTPRequestHandler):
    """The upstream of the page."""

    protocol_version = "HTTP/1.1"
    reports: list[dict[str, Any]]
    paths: list[str]
    reported: threading.Event

    def do_GET(self) -> None:
        self.paths.append(self.path)
        if self.path == "/last.png":
            self.reported.wait(PATIENCE)
        self._answer(*CONTENT.get(self.path, ("image/png", PIXEL)))

    def do_POST(self) -> None:
        received = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/report":
            self.reports.append(json.loads(received))
            self.reported.set()
        self._answer("text/plain", b"%d" % len(received))

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[HttpServer]:
    server = HttpServer(type("OneSite", (Site,), {"reports": [], "paths": [], "reported": threading.Event()}))
    yield server
    server.close()


def needs(*tools: str) -> str:
    """The path of the first program; skips the test if one of them is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return str(shutil.which(tools[0]))


def browse(browser: str, url: str, home: Path, trusted: Path | None) -> str:
    """Loads a page, with a screenshot in `home`/page.png; the browser's output. `trusted`: the CA in the profile."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    database = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*database, "-N", "--empty-password"], check=True)
    if trusted is not None:
        subprocess.run([*database, "-A", "-n", "ca", "-t", "C,,", "-i", str(trusted)], check=True)
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-component-update",
    ]
    options += ["--disable-background-networking", f"--user-data-dir={home / 'profile'}", "--window-size=900,600"]
    options += ["--host-resolver-rules=MAP server.test 127.0.0.1", f"--screenshot={home / 'page.png'}"]
    ran = subprocess.run(
        [browser, *options, url],
        cwd=home,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("alpn", ["http/1.1", "h2,http/1.1"])
def test_chromium(site: HttpServer, tmp_path: Path, alpn: str) -> None:
    browser = needs("chromium", "certutil")
    files = Files(tmp_path / "files")
    sockets = Echo()
    [port] = free_ports(1)
    table = table_of("r", cluster="site")
    routes = table["virtual_hosts"][0]["routers"]
    routes.insert(0, {"match": {"path": "/echo"}, "route": {"cluster_name": "sockets"}})
    for route in routes:
        route["route"]["upstream_protocol"] = "Http1"
    proxy = proxy_filter("r")
    proxy["config"]["downstream_protocol"] = "Auto"
    chain = {"tls_context": files.context(alpn=alpn), "filters": [proxy]}
    clusters = {"site": site.address, "sockets": f"127.0.0.1:{sockets.port}"}
    start = Start(tmp_path)
    handler: Any = site.RequestHandlerClass
    try:
        start(config_of([listener_of("l", port, [chain])], [table], clusters)).wait_for(READY)
        output = browse(browser, f"https://server.test:{port}/", tmp_path / "other", None)
        assert handler.paths == [], output  # the CA is unknown to this profile
        output = browse(browser, f"https://server.test:{port}/", tmp_path / "home", files.ca)
    finally:
        start.end()
        sockets.close()
    protocol = alpn.partition(",")[0]
    assert handler.reports == [{**RESULTS, "protocol": protocol}], output
    assert {f"/{number}.png" for number in range(IMAGES)} <= set(handler.paths)
    assert (tmp_path / "home" / "page.png").stat().st_size > 5000
