"""Records of TLS 1.3 made by hand, with the keys of a real connection (RFC 8446 sections 5 and 7): what no library sends."""

from __future__ import annotations

import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

ALERT, HANDSHAKE, DATA, HEARTBEAT = 21, 22, 23, 24
#: The cipher suite that both sides of Python's defaults choose.
SUITE = "TLS_AES_256_GCM_SHA384"


def _expand(secret: bytes, label: str, size: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = struct.pack("!HB", size, len(name)) + name + b"\x00"
    return HKDFExpand(hashes.SHA384(), size, info).derive(secret)


class Sealer:
    """Encrypts records as a client that has sent nothing since its handshake."""

    def __init__(self, key_log: Path, peer: ssl.SSLObject) -> None:
        """`key_log`: written for the connection of `peer` alone."""
        found = peer.cipher()
        assert found is not None
        assert found[0] == SUITE
        lines = [line.split() for line in key_log.read_text().splitlines()]
        (secret,) = {line[2] for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"}
        self._set_key(bytes.fromhex(secret))

    def _set_key(self, secret: bytes) -> None:
        self._secret = secret
        self._key = AESGCM(_expand(secret, "key", 32))
        self._iv = int.from_bytes(_expand(secret, "iv", 12), "big")
        self._number = 0

    def record(self, content: bytes, kind: int = DATA, padding: int = 0, outer: int = DATA, version: int = 0x0303) -> bytes:
        """One record. `outer`, `version`: what its header says."""
        inner = content + bytes((kind,)) + bytes(padding)
        header = struct.pack("!BHH", outer, version, len(inner) + 16)
        nonce = (self._iv ^ self._number).to_bytes(12, "big")
        self._number += 1
        return header + self._key.encrypt(nonce, inner, header)

    def key_update(self, asks: int = 0) -> bytes:
        """A KeyUpdate, after which the next key is used."""
        made = self.record(b"\x18\x00\x00\x01" + bytes((asks,)), HANDSHAKE)
        self._set_key(_expand(self._secret, "traffic upd", 48))
        return made
