"""The keys of the admin API: who reaches the port, and the files that it needs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pymosn.config.admin_files import TokenError, read_token
from pymosn.config.check.addresses import is_loopback
from pymosn.config.default import DEFAULT_CONFIG
from pymosn.config.load import Loaded, load_file


def load(tmp_path: Path, **admin: Any) -> Loaded:
    config = json.loads(DEFAULT_CONFIG)
    config["admin"].update(admin)
    (tmp_path / "conf").mkdir(exist_ok=True)
    path = tmp_path / "conf" / "mosn.json"
    path.write_text(json.dumps(config))
    return load_file(str(path), strict=True)


def on(address: str) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": address, "port_value": 34901}}}


def write_token(tmp_path: Path, text: str = "t" * 16, mode: int = 0o600) -> Path:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost", ""])
def test_loopback_is_no_fault(tmp_path: Path, address: str) -> None:
    assert load(tmp_path, **on(address), allow_changes_without_token=True).faults == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "myhost", "::ffff:10.0.0.1"])
def test_any_other_address_is_a_warning_and_is_never_open(tmp_path: Path, address: str) -> None:
    (fault,) = load(tmp_path, **on(address)).faults
    assert (fault.severity, fault.path) == ("warning", "admin.address.socket_address.address")
    assert "may read" in fault.message
    assert "rejects changes" in fault.message
    (fault,) = load(tmp_path, **on(address), token_file=str(write_token(tmp_path))).faults
    assert "need the token" in fault.message
    (fault,) = load(tmp_path, **on(address), allow_changes_without_token=True).errors
    assert fault.path == "admin.allow_changes_without_token"
    assert fault.line > 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost", False),
    ],
)
def test_loopback_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) == expected


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("t" * 16, 0o604, "mode is 0604"),
        ("t" * 16, 0o640, "mode is 0640"),
        ("t" * 15, 0o600, "16 to 4096 characters"),
        ("", 0o600, "16 to 4096 characters"),
        ("t" * 5000, 0o600, "16 to 4096 characters"),
        ("two words of text", 0o600, "printable"),
        ("ümlaut" * 4, 0o600, "printable"),
    ],
)
def test_faults_of_a_token_file(tmp_path: Path, text: str, mode: int, said: str) -> None:
    path = write_token(tmp_path, text, mode)
    (fault,) = load(tmp_path, token_file=str(path)).errors
    assert fault.path == "admin.token_file"
    assert said in fault.message
    assert str(path) in fault.message
    assert not text or text not in fault.text()


def test_a_token_file_that_is_no_file(tmp_path: Path) -> None:
    for path in ("absent", ".", "/dev/null", "a\0b"):
        (fault,) = load(tmp_path, token_file=path).errors
        assert fault.path == "admin.token_file"


def test_paths_belong_to_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    write_token(tmp_path / "conf", " \nsecret-of-some-length\n")
    assert load(tmp_path, token_file="token").faults == []
    assert read_token(str(tmp_path / "conf" / "token")) == b"secret-of-some-length"
    assert load(tmp_path).admin_socket == str(tmp_path / "mosn.admin.sock")
    assert load(tmp_path, socket="a.sock").admin_socket == str(tmp_path / "conf" / "a.sock")
    assert load(tmp_path, socket="/run/a.sock").admin_socket == "/run/a.sock"
    with pytest.raises(TokenError):
        read_token(str(tmp_path / "token"))


def test_the_socket_of_a_file_with_errors_is_known(tmp_path: Path) -> None:
    loaded = load(tmp_path, socket="/run/a.sock", address=5)
    assert (loaded.config, loaded.admin_socket) == (None, "/run/a.sock")


@pytest.mark.parametrize("path", ["@abstract", "a\0b", "/run/", "n" * 81])
def test_faults_of_the_socket(tmp_path: Path, path: str) -> None:
    (fault,) = load(tmp_path, socket=path).errors
    assert fault.path == "admin.socket"


@pytest.mark.parametrize("name", ["a.example:80", "*", "", "http://a", "a b", "[::1]"])
def test_faults_of_allowed_hosts(tmp_path: Path, name: str) -> None:
    (fault,) = load(tmp_path, allowed_hosts=["good.example", name]).errors
    assert fault.path == "admin.allowed_hosts[1]"


def test_an_unneeded_token_is_a_warning(tmp_path: Path) -> None:
    loaded = load(tmp_path, token_file=str(write_token(tmp_path)), allow_changes_without_token=True)
    assert [fault.path for fault in loaded.warnings] == ["admin.allow_changes_without_token"]
