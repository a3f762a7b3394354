"""Certificates for peers of every kind: PEM files and a PKCS 12 file with the key and the CA."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.kit import certificates as made

Config = dict[str, Any]
PASSWORD = "secret"


class Files:
    """ca.pem, own.pem and own.key in a folder; for Java also own.p12. The certificate is a server's and a client's."""

    def __init__(self, folder: Path, own: made.Issued | None = None) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(made.ca().certificate)
        (own or made.server()).files(folder, "own")
        self.store = folder / "own.p12"

    def for_java(self) -> Files:
        """Makes own.p12, by OpenSSL and the JDK's keytool."""
        export = ["openssl", "pkcs12", "-export", "-in", "own.pem", "-inkey", "own.key", "-out", "own.p12"]
        trust = ["keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", "ca.pem", "-keystore", "own.p12"]
        for command in ([*export, "-passout", f"pass:{PASSWORD}"], [*trust, "-storepass", PASSWORD]):
            subprocess.run(command, cwd=self.folder, check=True, capture_output=True)
        return self

    def context(self, *, demands: bool = False, **more: Any) -> Config:
        """A `tls_context`. `demands`: of a listener whose clients need a certificate."""
        own = {"cert_chain": str(self.folder / "own.pem"), "private_key": str(self.folder / "own.key")}
        demanded = {"verify_client": True, "require_client_cert": True} if demands else {}
        return {"status": True, "ca_cert": str(self.ca), **own, **demanded, **more}
