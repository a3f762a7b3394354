"""`pymosn certs new`: certificates that a listener and a cluster can use, and that verify."""

import ssl
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from pymosn.kit.certs import certs
from pymosn.network.tls.contexts import server_context
from pymosn.network.tls.settings import ClientSettings, ServerSettings, TlsSettings
from pymosn.network.tls.upstream import client_context


def run(*arguments: str) -> Result:
    return CliRunner().invoke(certs, ["new", *arguments])


def settings(folder: Path, name: str) -> TlsSettings:
    content = {kind: (folder / f"{name}.{kind}").read_bytes() for kind in ("pem", "key")}
    return TlsSettings(content["pem"], content["key"], (folder / "ca.pem").read_bytes())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "more.test", "192.0.2.9"])
def test_they_work_for_mutual_tls(tmp_path: Path, name: str) -> None:
    made = run(str(tmp_path / "new" / "folder"), "--name", "more.test", "--name", "192.0.2.9", "--spiffe-id", "spiffe://a/b")
    assert made.exit_code == 0, made.output
    folder = tmp_path / "new" / "folder"
    assert f'"cert_chain": "{folder}/server.pem"' in made.output
    server = server_context(ServerSettings(settings(folder, "server"), verifies=True, requires=True)).ssl_context
    client = client_context(ClientSettings(settings(folder, "client")))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = ends[1].getpeercert()
    assert found is not None
    assert found["subjectAltName"] == (("URI", "spiffe://a/b"),)


def test_modes_and_overwriting(tmp_path: Path) -> None:
    assert run(str(tmp_path)).exit_code == 0
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == ["ca.key", "ca.pem", "client.key", "client.pem", "server.key", "server.pem"]
    for name in files:
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == (0o600 if name.endswith(".key") else 0o644)
    again = run(str(tmp_path))
    assert again.exit_code != 0
    assert "--force" in again.output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    assert run(str(tmp_path), "--force").exit_code == 0
    assert all((tmp_path / name).read_bytes() != content for name, content in files.items())


def test_they_verify_unlike_the_samples_of_mosn(tmp_path: Path) -> None:
    """The leaf has another subject than the CA, and both have key ids."""
    assert run(str(tmp_path)).exit_code == 0
    leaf, authority = (x509.load_pem_x509_certificate((tmp_path / name).read_bytes()) for name in ("server.pem", "ca.pem"))
    assert leaf.subject != leaf.issuer == authority.subject
    assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == (
        authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )


@pytest.mark.parametrize("arguments", [["--spiffe-id", "http://x"], ["--name", "ä.test"], ["--days", "0"]])
def test_invalid_arguments(tmp_path: Path, arguments: list[str]) -> None:
    made = run(str(tmp_path / "x"), *arguments)
    assert made.exit_code == 2
    assert not list(tmp_path.glob("x/*"))
