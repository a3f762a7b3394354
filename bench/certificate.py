"""The certificate of all peers, and the client's side of TLS."""

import functools
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.install import debian_tool
from bench.void import Unavailable, Void

NAME = "localhost"
SUITE = "TLS_AES_256_GCM_SHA384"

#: Read by the load generators, wrk included: so all peers agree to the same version, cipher suite and key exchange.
CLIENT_SETTINGS = f"""
openssl_conf = init
[init]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv1.3
Ciphersuites = {SUITE}
Groups = X25519
"""


@dataclass(frozen=True)
class Certificate:
    """A self-signed ECDSA P-256 certificate: files with it, its key, and both, and one with the clients' settings."""

    chain: Path
    key: Path
    both: Path
    client_settings: Path

    def connect(self, port: int, alpn: str = "") -> ssl.SSLSocket:
        """A new connection to `port`, with TLS 1.3. Raises Void if the handshake fails, or selects another protocol."""
        raw = socket.create_connection(("127.0.0.1", port), 10)
        try:
            made = client_context(self.chain, alpn).wrap_socket(raw, server_hostname=NAME)
        except OSError as fault:
            raw.close()
            raise Void(f"TLS handshake: {fault}") from None
        if alpn and made.selected_alpn_protocol() != alpn:
            made.close()
            raise Void(f"the handshake selects {made.selected_alpn_protocol()} instead of {alpn}")
        return made


@functools.cache
def client_context(chain: Path, alpn: str = "") -> ssl.SSLContext:
    """The client's settings: trusts the certificate in `chain`, and offers one protocol, or none."""
    context = ssl.create_default_context(cafile=str(chain))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def make_certificate(directory: Path) -> Certificate:
    """Makes a certificate with the program openssl. Raises Unavailable."""
    made = Certificate(*(directory / name for name in ("chain.pem", "key.pem", "both.pem", "client.cnf")))
    command = [debian_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "30", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    done = subprocess.run([*command, "-keyout", made.key, "-out", made.chain], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise Unavailable(f"openssl makes no certificate: {done.stderr.strip()[-300:]}")
    made.both.write_bytes(made.chain.read_bytes() + made.key.read_bytes())
    made.client_settings.write_text(CLIENT_SETTINGS)
    return made
