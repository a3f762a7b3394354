"""istiod and its agent, without Kubernetes: the configuration is in files, and the API of Kubernetes is a fake."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from tests.kit.certificates import ca

from interop.kubernetes import FakeKubernetes, token_of

Made = TypeVar("Made")
#: What istiod is run with: no certificates of its own, no webhooks, no analysis.
_ENVIRONMENT: Final = {
    "PILOT_ENABLE_ANALYSIS": "false",
    "POD_NAMESPACE": "istio-system",
    "POD_NAME": "istiod",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
}
_NAMESPACES: Final = tuple(
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("default", "istio-system")
)


def directly(action: Callable[[], Made]) -> Made:
    """Calls `action` in this network namespace."""
    return action()


class Istiod:
    """istiod with its configuration in a folder, until `close`."""

    def __init__(
        self,
        program: str,
        folder: Path,
        ports: tuple[int, int, int],
        *,
        host: str = "127.0.0.1",
        within: Callable[[Callable[[], Any]], Any] = directly,
        mesh: dict[str, Any] | None = None,
        objects: Sequence[dict[str, Any]] = (),
        **environment: str,
    ) -> None:
        """`ports`: for plain gRPC, for gRPC with TLS and the certificate authority, and for readiness. `within`: calls what
        it is given in the network namespace of `host`. `objects`: of Kubernetes; if there are any, files are not read.
        """
        folder.mkdir()
        self._objects = folder / "objects"
        self._objects.mkdir()
        self.host = host
        self._within = within
        self.plain, self.secure, self._http = ports
        self.log = folder / "istiod.log"
        self.kubernetes: FakeKubernetes = within(lambda: FakeKubernetes(host, *_NAMESPACES, *objects))
        files = {"kubeconfig": self._kubeconfig(), "mesh.yaml": {"trustDomain": "cluster.local", **(mesh or {})}}
        for name, content in files.items():
            (folder / name).write_text(yaml.safe_dump(content))
        (folder / "networks.yaml").write_text("networks: {}\n")
        self._write_authority(folder / "ca")
        command = [
            program,
            "discovery",
            "--registries=Kubernetes",
            "--ctrlz_port=0",
            "--secureGRPCAddr",
            f"{host}:{self.secure}",
        ]
        command += ["--kubeconfig", str(folder / "kubeconfig")]
        command += [] if objects else ["--configDir", str(self._objects)]
        command += ["--meshConfig", str(folder / "mesh.yaml"), "--networksConfig", str(folder / "networks.yaml")]
        command += ["--grpcAddr", f"{host}:{self.plain}", "--httpAddr", f"{host}:{self._http}", "--httpsAddr", ""]
        command += ["--monitoringAddr", f"{host}:0"]
        authority = {"ENABLE_CA_SERVER": "true", "PILOT_CERT_PROVIDER": "istiod", "ROOT_CA_DIR": str(folder / "ca")}
        variables = {**os.environ, **_ENVIRONMENT, **authority, **environment}
        with self.log.open("w") as log:
            self._process: subprocess.Popen[bytes] = within(
                lambda: subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT)
            )

    def is_up(self) -> bool:
        """Whether it accepts connections."""
        with contextlib.suppress(OSError):
            self._within(lambda: socket.create_connection((self.host, self.plain), 5)).close()
            return True
        return False

    def put(self, name: str, *objects: dict[str, Any]) -> None:
        """Writes a file of Istio's objects, in one step; what was in a file of that name before is gone."""
        part = self._objects.parent / f"{name}.part"
        part.write_text(yaml.safe_dump_all(objects))
        part.rename(self._objects / f"{name}.yaml")

    def remove(self, name: str) -> None:
        """Removes a file of objects."""
        (self._objects / f"{name}.yaml").unlink()

    def close(self) -> None:
        """Ends istiod and the API."""
        self._process.kill()
        self._process.wait()
        self.kubernetes.close()

    def _kubeconfig(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://{self.kubernetes.address}"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "users": [{"name": "fake", "user": {}}],
        }

    def _write_authority(self, folder: Path) -> None:
        folder.mkdir()
        root = ca()
        for name in ("ca-cert.pem", "root-cert.pem", "cert-chain.pem"):
            (folder / name).write_bytes(root.certificate)
        (folder / "ca-key.pem").write_bytes(root.key)


class Agent:
    """Istio's agent with pymosn as its proxy, in the network namespace of a pod, until `close`."""

    def __init__(
        self,
        program: str,
        folder: Path,
        istiod: Istiod,
        *,
        name: str,
        address: str,
        within: Callable[[Callable[[], Any]], Any],
        prefix: Sequence[str] = (),
    ) -> None:
        """`prefix`: the beginning of the agent's command. `name`: of the pod, its account and its label `app`."""
        folder.mkdir()
        self.log = folder / "agent.log"
        self._within = within
        _write(folder / "var/run/secrets/tokens/istio-token", token_of(name).encode())
        _write(folder / "var/run/secrets/istio/root-cert.pem", ca().certificate)
        proxy = folder / "pymosn-envoy"
        proxy.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pymosn envoy "$@"\n')
        proxy.chmod(0o755)
        config = {
            "binaryPath": str(proxy),
            "discoveryAddress": f"{istiod.host}:{istiod.secure}",
            "concurrency": 1,
            "terminationDrainDuration": "1s",
        }
        _write(folder / "etc/istio/pod/labels", f'app="{name}"\nversion="v1"\n'.encode())
        variables = {
            "POD_NAME": f"{name}-1",
            "POD_NAMESPACE": "default",
            "INSTANCE_IP": address,
            "SERVICE_ACCOUNT": name,
            "PROXY_CONFIG": yaml.safe_dump(config),
            "ISTIO_META_CLUSTER_ID": "Kubernetes",
            "ISTIO_META_WORKLOAD_NAME": name,
            "ISTIO_METAJSON_LABELS": json.dumps({"app": name, "version": "v1"}),
            "CA_ADDR": f"{istiod.host}:{istiod.secure}",
            "PILOT_CERT_PROVIDER": "istiod",
        }
        command = [*prefix, program, "proxy", "sidecar", "--domain", "default.svc.cluster.local"]
        # The agent has a folder of its own, so relative paths would not be found.
        paths = os.pathsep.join(str(Path(each).resolve()) for each in sys.path if each)
        environment = {**os.environ, **variables, "PYTHONPATH": paths}
        with self.log.open("w") as log:
            self._process: subprocess.Popen[bytes] = within(
                lambda: subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )

    def is_ready(self) -> bool:
        """Whether the agent says that the proxy is ready."""
        return self.get(15020, "/healthz/ready")[0] == 200

    def get(self, port: int, path: str) -> tuple[int, str]:
        """The answer of a port of the pod to a GET; status 0 without one."""

        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except OSError:
                return 0, ""

        found: tuple[int, str] = self._within(ask)
        return found

    def close(self) -> None:
        """Ends the agent, which ends the proxy."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
