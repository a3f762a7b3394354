"""The files of TLS contexts: what is read, what is reported, and how their content gets to the workers."""

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit import certificates

from pymosn.assembly.packed_config import PackedConfig, decode, encode, unpack_cluster
from pymosn.assembly.packer import pack
from pymosn.assembly.tls_material import REFERENCE, TlsMaterial, resolve
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.schema import Cluster, ClusterManager, FilterChain, Listener, MosnConfig, Server, TlsContext
from pymosn.server import tls_files
from pymosn.server.tls_files import MAX_FILE, TlsFiles

PEM = "-----BEGIN CERTIFICATE-----\ninline\n-----END CERTIFICATE-----\n"
KEY = "servers[0].listeners[0].filter_chains[0].tls_context.private_key"
CHAIN = "servers[0].listeners[0].filter_chains[0].tls_context.cert_chain"


def with_tls(clusters: list[Cluster] | None = None, manager: TlsContext | None = None, **keys: Any) -> MosnConfig:
    """A configuration with one listener, whose only context has these keys."""
    chain = FilterChain(tls_context=TlsContext(**{"status": True, **keys}))
    server = Server(listeners=[Listener(name="a", filter_chains=[chain])])
    return MosnConfig(servers=[server], cluster_manager=ClusterManager(clusters=clusters or [], tls_context=manager))


def no_faults(config: MosnConfig, material: TlsMaterial) -> list[Diagnostic]:
    return []


def read(config: MosnConfig, folder: Path, *args: TlsMaterial) -> tuple[TlsMaterial, list[Diagnostic]]:
    return asyncio.run(TlsFiles(config, str(folder), no_faults).read(config, *(args or (TlsMaterial(),))))


def private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def context_of(packed: PackedConfig) -> TlsContext:
    context = packed.rest.servers[0].listeners[0].filter_chains[0].tls_context
    assert context is not None
    return context


def sent(packed: PackedConfig) -> PackedConfig:
    """What a worker has of it."""
    return decode(encode(packed), packed.parts)


def test_relative_paths_start_at_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "cert.pem").write_text("certificate")
    private(tmp_path / "key.pem", "key")
    config = with_tls(cert_chain="tls/cert.pem", private_key=str(tmp_path / "key.pem"), ca_cert=PEM)
    material, faults = read(config, tmp_path)
    assert faults == []
    assert material.contents == {"tls/cert.pem": b"certificate", str(tmp_path / "key.pem"): b"key"}
    packed = sent(pack(config, None, material))
    context = context_of(packed)
    assert all(text.startswith(REFERENCE) for text in (context.cert_chain, context.private_key, context.ca_cert))
    assert resolve(context.cert_chain, packed.kept_parts()) == b"certificate"
    assert resolve(context.private_key, packed.kept_parts()) == b"key"
    assert resolve(context.ca_cert, packed.kept_parts()) == PEM.encode()
    assert resolve(context.crl, packed.kept_parts()) == b""


def test_only_the_content_makes_two_configurations_differ(tmp_path: Path) -> None:
    config = with_tls(cert_chain="c.pem")
    packed = [pack(config, None, TlsMaterial({"c.pem": content})) for content in (b"one", b"one", b"two")]
    assert packed[0] == packed[1]
    assert context_of(packed[0]) != context_of(packed[2])
    assert set(packed[2].parts) - set(packed[0].parts) == set(packed[2].material)


def test_contexts_without_status_are_not_read(tmp_path: Path) -> None:
    config = with_tls(status=False, cert_chain="absent.pem")
    material, faults = read(config, tmp_path)
    assert (material.contents, faults) == ({}, [])
    assert context_of(pack(config, None, material)).cert_chain == "absent.pem"


def test_each_cluster_gets_the_context_that_it_uses(tmp_path: Path) -> None:
    for name in ("own", "manager"):
        (tmp_path / name).write_text(name)
    own = TlsContext(status=True, ca_cert="own")
    clusters = [
        Cluster(name="own", tls_context=own),
        Cluster(name="manager", cluster_manager_tls=True, tls_context=own),
        Cluster(name="plain"),
    ]
    config = with_tls(clusters, TlsContext(status=True, ca_cert="manager"), status=False)
    material, faults = read(config, tmp_path)
    assert faults == []
    packed = sent(pack(config, None, material))
    found = {}
    for name, cluster in packed.clusters.items():
        context = unpack_cluster(cluster, packed.parts).tls_context
        found[name] = resolve(context.ca_cert, packed.kept_parts()) if context is not None else None
    assert found == {"own": b"own", "manager": b"manager", "plain": None}


def _missing(path: Path) -> str:
    return "No such file or directory"


def _fifo(path: Path) -> str:
    os.mkfifo(path)
    return "not a regular file but a FIFO"


def _folder(path: Path) -> str:
    path.mkdir()
    return "not a regular file but a folder"


def _large(path: Path) -> str:
    path.write_bytes(bytes(MAX_FILE + 1))
    return f"larger than {MAX_FILE} bytes"


def _device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "not a regular file but a device"


@pytest.mark.parametrize("make", [_missing, _fifo, _folder, _large, _device])
def test_what_cannot_be_read_is_an_error_at_its_key(tmp_path: Path, make: Any) -> None:
    why = make(tmp_path / "c.pem")
    material, faults = read(with_tls(cert_chain="c.pem"), tmp_path)
    assert not material.has("c.pem")
    assert [(fault.severity, fault.path) for fault in faults] == [("error", CHAIN)]
    assert faults[0].message == f"{tmp_path}/c.pem cannot be read: {why}"


def test_a_key_without_its_marks_is_not_shown_as_a_path(tmp_path: Path) -> None:
    bare = "".join(certificates.server().key.decode().splitlines()[1:-1])
    config = with_tls(cert_chain=certificates.server().certificate.decode(), private_key=bare)
    material, faults = read(config, tmp_path)
    assert not material.has(bare)
    assert faults == []  # the check of the configuration has rejected it


def test_a_path_with_a_nul_is_an_error_and_no_exception(tmp_path: Path) -> None:
    _, faults = read(with_tls(cert_chain="a\0b"), tmp_path)
    assert [fault.severity for fault in faults] == ["error"]


def test_with_fall_back_a_listener_starts_without_its_certificate(tmp_path: Path) -> None:
    _, faults = read(with_tls(cert_chain="absent.pem", private_key="absent.pem", fall_back=True), tmp_path)
    assert [(fault.severity, fault.path) for fault in faults] == [("warning", CHAIN), ("warning", KEY)]
    _, faults = read(with_tls(ca_cert="absent.pem", fall_back=True), tmp_path)
    assert [fault.severity for fault in faults] == ["error"]


@pytest.mark.parametrize(("mode", "who"), [(0o600, ""), (0o400, ""), (0o640, "its group"), (0o644, "any user")])
def test_a_key_that_others_can_read_is_a_warning(tmp_path: Path, mode: int, who: str) -> None:
    private(tmp_path / "key.pem", "key").chmod(mode)
    _, faults = read(with_tls(private_key="key.pem"), tmp_path)
    expected = f"{tmp_path}/key.pem is accessible to {who} (mode 0{mode:o}); a private key should have 0600"
    assert [(fault.severity, fault.message) for fault in faults] == ([("warning", expected)] if who else [])


def test_what_is_kept_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "new.pem").write_text("new")
    config = with_tls(cert_chain="kept.pem", ca_cert="new.pem")
    material, faults = read(config, tmp_path, TlsMaterial({"kept.pem": b"kept", "unused.pem": b"unused"}))
    assert faults == []
    assert material.contents == {"kept.pem": b"kept", "new.pem": b"new"}


def test_no_key_is_in_an_error(tmp_path: Path) -> None:
    _, faults = read(with_tls(private_key="-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n"), tmp_path)
    assert faults == []


def test_a_check_sees_what_was_read_and_its_faults_are_reported(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("content")
    config = with_tls(cert_chain="c.pem")
    fault = Diagnostic(path=CHAIN, message="no certificate")
    seen: list[TlsMaterial] = []

    def check(config: MosnConfig, material: TlsMaterial) -> list[Diagnostic]:
        seen.append(material)
        return [fault]

    _, faults = TlsFiles(config, str(tmp_path), check).read_now(config)
    assert faults == [fault]
    assert seen[0].contents == {"c.pem": b"content"}
    (tmp_path / "c.pem").unlink()
    TlsFiles(config, str(tmp_path), check).read_now(config)
    assert len(seen) == 1


def test_the_next_generation_gets_what_only_root_could_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, chain = private(tmp_path / "key.pem", "root's key"), private(tmp_path / "cert.pem", "certificate")
    config = with_tls(cert_chain="cert.pem", private_key="key.pem")
    before = TlsFiles(config, str(tmp_path), no_faults)
    asyncio.run(before.start())
    assert before.export(before.first[0]) is None
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path != str(key))  # root has been given up
    assert len(before.unreadable_keys()) == 1
    content = before.export(before.first[0])
    assert content is not None
    assert msgspec.msgpack.decode(content) == {str(key): b"root's key"}

    def denied(path: str, *args: object) -> bytes:
        if path == str(key):
            raise PermissionError(13, "Permission denied")
        return Path(path).read_bytes()

    monkeypatch.setattr(tls_files, "read_regular", denied)
    after = TlsFiles(config, str(tmp_path), no_faults)
    after.adopt(content)
    chain.write_text("renewed")
    asyncio.run(after.start())
    material, (fault,) = after.first
    assert material.contents == {"key.pem": b"root's key", "cert.pem": b"renewed"}
    assert (fault.severity, fault.path) == ("warning", KEY)
    assert "what was read before stays" in fault.message
    assert "root's key" not in fault.message
    # And the one after that.
    assert after.unreadable_keys()
    assert after.export(material) == content


def test_a_file_that_is_gone_is_not_replaced_by_what_was_read_before(tmp_path: Path) -> None:
    files = TlsFiles(with_tls(private_key="key.pem"), str(tmp_path), no_faults)
    files.adopt(msgspec.msgpack.encode({str(tmp_path / "key.pem"): b"old"}))
    asyncio.run(files.start())
    material, (fault,) = files.first
    assert material.contents == {}
    assert fault.severity == "error"
