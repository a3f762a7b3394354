"""Certificates and keys of the real program: rotation, faults, session tickets, what is shown, what only root can read."""

import contextlib
import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import PYTHON_PATH, Start, public_python
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops, eventually
from tests.kit import certificates as made

from pymosn.control.certificates import certificates_in

# TLS is tried on the compiled build.
pytestmark = pytest.mark.once

#: All are made for the same names.
NEW = made.issue("server.test", made.ca(), names=("localhost", "127.0.0.1"))
REPLACED = "version 2 is active"


class Site:
    """Two hops, the first of which has TLS with the files `c.pem` and `c.key` of a folder."""

    def __init__(self, start: Start, hops: TwoHops, folder: Path, **context: Any) -> None:
        self.hops = hops
        self.folder = folder
        self.context = {"status": True, "cert_chain": f"{folder}/c.pem", "private_key": f"{folder}/c.key", **context}
        hops.server["listeners"][0]["filter_chains"][0]["tls_context"] = self.context
        self._start = start

    def serve(self) -> Pymosn:
        self.proxy = self._start(self.hops.config)
        self.proxy.wait_for(READY)
        return self.proxy

    def presented(self) -> bytes:
        """The certificate that a new connection gets."""
        with self.connected() as sock:
            return sock.getpeercert(binary_form=True) or b""

    @contextlib.contextmanager
    def connected(
        self, context: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None
    ) -> Iterator[ssl.SSLSocket]:
        context = context or made.client_context()
        with (
            socket.create_connection(("127.0.0.1", self.hops.client_port), PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as sock,
        ):
            yield sock

    def has(self, issued: made.Issued) -> Callable[[], bool]:
        return lambda: self.presented() == der(issued)


def der(issued: made.Issued) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.certificate.decode())


def names_in(certificate: bytes) -> tuple[str, ...]:
    return certificates_in(certificate)[0].names


def write(folder: Path, issued: made.Issued, key: made.Issued | None = None) -> None:
    (folder / "c.pem").write_bytes(issued.certificate)
    (folder / "c.key").touch(0o600)
    (folder / "c.key").write_bytes((key or issued).key)


def rename(folder: Path, issued: made.Issued) -> None:
    new = folder / "new"
    new.mkdir(exist_ok=True)
    write(new, issued)
    for name in ("c.pem", "c.key"):
        os.replace(new / name, folder / name)


def swap(folder: Path, issued: made.Issued) -> None:
    """As the kubelet does it: a new folder, and then the link `..data` at once."""
    new = folder / f"..{len(os.listdir(folder))}"
    new.mkdir()
    write(new, issued)
    (folder / "..tmp").symlink_to(new.name)
    os.replace(folder / "..tmp", folder / "..data")
    for name in ("c.pem", "c.key"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"..data/{name}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_folder = tmp_path / "tls"
    made_folder.mkdir()
    return made_folder


def ask(sock: ssl.SSLSocket) -> int:
    """The status of one request on an open connection."""
    sock.sendall(b"GET /a HTTP/1.1\r\nhost: server.test\r\n\r\n")
    response = http.client.HTTPResponse(sock)
    response.begin()
    response.read()
    return response.status


@pytest.mark.parametrize("change", [rename, write, swap])
def test_new_handshakes_get_a_new_certificate_and_open_connections_go_on(
    start: Start, two_hops: TwoHops, folder: Path, change: Callable[[Path, made.Issued], None]
) -> None:
    change(folder, made.server())
    site = Site(start, two_hops, folder)
    proxy = site.serve()
    assert site.presented() == der(made.server())
    with site.connected() as sock:
        assert ask(sock) == 200
        change(folder, NEW)
        assert eventually(site.has(NEW))
        assert ask(sock) == 200
        assert sock.getpeercert(binary_form=True) == der(made.server())
    change(folder, made.server())
    assert eventually(site.has(made.server()))
    assert "rejected" not in proxy.output


def test_a_half_written_pair_keeps_the_old_one_and_is_used_when_it_is_whole(
    start: Start, two_hops: TwoHops, folder: Path
) -> None:
    write(folder, made.server())
    site = Site(start, two_hops, folder)
    proxy = site.serve()
    (folder / "c.pem").write_bytes(NEW.certificate)
    line = proxy.wait_for(r".*what was active before stays, because .*")[0]
    assert "filter_chains[0].tls_context.private_key" in line
    assert site.presented() == der(made.server())
    (folder / "c.key").write_bytes(NEW.key)
    assert eventually(site.has(NEW))
    assert sum("what was active before stays" in text for text in proxy.lines) == 1
    (folder / "c.pem").write_bytes(b"")
    proxy.wait_for(r"what was active before stays, because .*cert_chain")
    assert site.presented() == der(NEW)


def test_an_unusable_certificate_prevents_the_start_and_rejects_a_reload(
    start: Start, two_hops: TwoHops, folder: Path
) -> None:
    write(folder, made.server(), made.client())
    site = Site(start, two_hops, folder)
    proxy = start(two_hops.config)
    assert proxy.exit_code() == 1
    lines = json.dumps(two_hops.config, indent=1).splitlines()
    number = next(i for i, text in enumerate(lines, 1) if '"private_key"' in text)
    assert f"mosn.json:{number}:" in proxy.output
    assert f"error: servers[0].listeners[0].filter_chains[0].tls_context.private_key: {folder}/c.key" in proxy.output
    site.hops.server["watch_certificates"] = False
    write(folder, made.server())
    proxy = site.serve()
    write(folder, NEW, made.client())
    proxy.send(signal.SIGHUP)
    proxy.wait_for(r"change from SIGHUP: rejected")
    assert site.presented() == der(made.server())
    write(folder, NEW)
    proxy.send(signal.SIGHUP)
    proxy.wait_for(REPLACED)
    assert site.presented() == der(NEW)


def test_cas_and_revocation_lists_are_rotated_too(start: Start, two_hops: TwoHops, folder: Path) -> None:
    write(folder, made.server())
    (folder / "ca.pem").write_bytes(made.other_ca().certificate)
    (folder / "crl.pem").write_bytes(made.revoke(made.other_ca()))
    files = {"ca_cert": f"{folder}/ca.pem", "crl": f"{folder}/crl.pem"}
    site = Site(start, two_hops, folder, verify_client=True, require_client_cert=True, **files)
    site.serve()

    def is_accepted() -> bool:
        try:
            with site.connected(made.client_context(made.client())) as sock:
                return ask(sock) == 200
        except (OSError, http.client.HTTPException):
            return False

    assert not is_accepted()
    (folder / "crl.pem").write_bytes(made.revoke(made.ca()))
    (folder / "ca.pem").write_bytes(made.ca().certificate)
    assert eventually(is_accepted)
    (folder / "crl.pem").write_bytes(made.revoke(made.ca(), made.client()))
    assert eventually(lambda: not is_accepted())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_every_worker_and_after_one_was_replaced_and_after_a_reload(
    start: Start, two_hops: TwoHops, folder: Path, version: ssl.TLSVersion
) -> None:
    write(folder, made.server())
    site = Site(start, two_hops, folder)
    proxy = site.serve()
    context = made.client_context()
    context.minimum_version = context.maximum_version = version
    with site.connected(context) as sock:
        assert ask(sock) == 200
        session = sock.session
    assert session is not None

    def all_resume() -> bool:
        resumed = []
        for _ in range(16):  # to two workers at random
            with site.connected(context, session) as sock:
                resumed.append(sock.session_reused)
                assert ask(sock) == 200
        return all(resumed)

    assert all_resume()
    before = proxy.worker_pids()
    os.kill(before[0], signal.SIGKILL)
    assert eventually(lambda: len(proxy.worker_pids()) == 2 and before[0] not in proxy.worker_pids())
    assert eventually(lambda: all(worker["state"] == "running" for worker in json.loads(two_hops.admin("/api/v1/workers"))))
    assert all_resume()
    proxy.send(signal.SIGHUP)
    proxy.wait_for(REPLACED)
    assert all_resume()
    rename(folder, made.issue("server.test", made.ca(), names=names_in(made.server().certificate)))
    proxy.wait_for("version 3 is active")
    assert all_resume(), "the names are the same"


def test_the_certificates_in_use_and_no_key_are_shown(start: Start, two_hops: TwoHops, folder: Path) -> None:
    soon = made.issue("soon.test", made.ca(), names=("127.0.0.1",), ends=made.timedelta(days=5))
    write(folder, soon)
    site = Site(start, two_hops, folder, ca_cert=made.ca().certificate.decode())
    site.context["private_key"] = soon.key.decode()
    proxy = site.serve()
    proxy.wait_for(r"the certificate 'soon.test' expires in 5.0 days, on .*c.pem; listener clientListener: cert_chain")
    found = json.loads(two_hops.admin("/api/v1/certs"))
    assert [(one["subject"], one["file"], one["used_by"]) for one in found] == [
        ("CN=soon.test", f"{folder}/c.pem", ["listener clientListener: cert_chain"]),
        ("CN=Test CA", "", ["listener clientListener: ca_cert"]),
    ]
    assert found[0]["fingerprint"] == soon.x509.fingerprint(made.hashes.SHA256()).hex()
    assert 4.9 < found[0]["days_left"] < 5.1
    assert "CN=soon.test: 5 days left" in two_hops.admin("/api/v1/certs?format=text")
    metrics = two_hops.admin("/metrics")
    (line,) = [text for text in metrics.splitlines() if text.startswith("pymosn_certificate_expiry") and "soon" in text]
    assert 4.9 * 86400 < float(line.rpartition(" ")[2]) - time.time() < 5.1 * 86400
    write(folder, NEW)
    (folder / "c.pem").write_bytes(soon.certificate)
    secret = soon.key.decode().splitlines()[1]
    shown = [two_hops.admin(path) for path in ("/api/v1/config_dump", "/api/v1/certs", "/api/v1/stats", "/metrics")]
    for text in (*shown, proxy.output):
        assert secret not in text
        assert "PRIVATE" not in text


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    return subprocess.run(
        [sys.executable, "-m", "pymosn", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
    )


def test_check_reads_the_files_and_certs_lists_them(start: Start, two_hops: TwoHops, folder: Path) -> None:
    write(folder, made.expired())
    Site(start, two_hops, folder)
    path = folder / "mosn.json"
    path.write_text(json.dumps(two_hops.config, indent=1))
    checked = command("check", "-c", str(path))
    assert checked.returncode == 0
    assert "the certificate 'expired' has expired on" in checked.stderr
    listed = command("certs", "list", "-c", str(path), "--json")
    assert [one["subject"] for one in json.loads(listed.stdout)] == ["CN=expired"]
    assert "EXPIRED 1 days ago" in command("certs", "list", "-c", str(path)).stdout
    (folder / "c.key").unlink()
    checked = command("check", "-c", str(path))
    assert checked.returncode == 1
    assert f"{folder}/c.key cannot be read: No such file or directory" in checked.stderr


@pytest.mark.once
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_key_that_only_root_can_read_stays_as_it_was_at_the_start(
    two_hops: TwoHops, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path(tempfile.mkdtemp(prefix="pymosn-test-"))
    try:
        place.chmod(0o755)
        folder = place / "tls"
        folder.mkdir()
        write(folder, made.server())
        two_hops.config["user"] = "nobody"
        monkeypatch.setattr(sys, "executable", public_python())
        programs = Start(place)
        site = Site(programs, two_hops, folder)
        environment = {"PYTHONPATH": PYTHON_PATH}
        proxy = programs(two_hops.config, **environment)
        try:
            proxy.wait_for(rf"{folder}/c.key was read as root, and user 'nobody' cannot read it")
            proxy.wait_for(READY)
            assert os.stat(f"/proc/{proxy.process.pid}").st_uid == pwd.getpwnam("nobody").pw_uid
            assert site.presented() == der(made.server())
            write(folder, NEW)
            line = proxy.wait_for(r".*what was active before stays, because .*")[0]
            assert "does not" in line
            assert site.presented() == der(made.server())
            (folder / "c.pem").write_bytes(made.server().certificate)
            proxy.send(signal.SIGHUP)
            proxy.wait_for(rf"{folder}/c.key cannot be read by user 'nobody': Permission denied; what was read before stays")
            proxy.wait_for(REPLACED)
            assert site.presented() == der(made.server())
        finally:
            programs.end()
    finally:
        shutil.rmtree(place)
