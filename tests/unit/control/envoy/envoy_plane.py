"""A plane with resources of xDS, for tests of Envoy's views."""

from typing import Any

from tests.kit.xds_messages import message_of
from tests.unit.control.fake_plane import FakePlane

from pymosn.control.envoy.facts import ACTIVE, REJECTED, STATIC, WARMING, Facts, Received, Updates
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
#: 2026-11-30T10:00:00Z
TEN = 1796032800.0


def received(url: str, value: dict[str, Any], stage: str = ACTIVE, version: str = "v1", fault: str = "") -> Received:
    message = message_of(url.rpartition("/")[2], value)
    name = value.get("name", value.get("cluster_name", ""))
    return Received(url, name, version, message.SerializeToString(), TEN, stage, fault)


def listener(name: str, table: dict[str, Any] | None = None) -> dict[str, Any]:
    manager: dict[str, Any] = {"@type": HCM, "stat_prefix": "a"}
    manager["route_config"] = table or {"name": f"inline of {name}"}
    return {"name": name, "filter_chains": [{"filters": [{"name": "m", "typed_config": manager}]}]}


def resources() -> list[Received]:
    return [
        received(CLUSTER, {"name": "xds-grpc", "type": "STATIC"}, STATIC, "static"),
        received(CLUSTER, {"name": "out", "type": "EDS"}, ACTIVE, "v1", "newest: lb_policy: unknown"),
        received(CLUSTER, {"name": "clientCluster", "type": "EDS"}),
        received(CLUSTER, {"name": "later"}, WARMING),
        Received(CLUSTER, "never", "", b"", 0.0, REJECTED, "type: unknown"),
        received(ENDPOINTS, {"cluster_name": "out"}),
        received(LISTENER, listener("own"), STATIC, "static"),
        received(LISTENER, listener("http")),
        received(LISTENER, listener("http"), WARMING, "v2"),
        Received(LISTENER, "bad", "", b"", 0.0, REJECTED, "filter_chains: missing"),
        received(ROUTES, {"name": "http.80", "virtual_hosts": [{"name": "a", "domains": ["*"]}]}),
        received(SECRET, {"name": "default", "tls_certificate": {"private_key": {"inline_string": "KEYTEXT"}}}),
        Received(SECRET, "ROOTCA", "", b"", 0.0, WARMING),
    ]


class EnvoyPlane(FakePlane):
    """`drains`: the calls. `found`: what xDS has received."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Facts(
            resources(),
            [
                Updates("cds", "v1", 3, 1, 4, 0, True),
                Updates("lds", "v2", 2, 0, 2, 0, True),
                Updates("eds", "v1", 7, 0, 7, 0, True),
            ],
            uses_ads=True,
            has_listeners=True,
            is_settled=True,
        )
        self.drains: list[tuple[bool, bool, bool]] = []
        self.failing = False

    def started(self) -> float:
        return TEN

    def bootstrap(self) -> dict[str, Any]:
        return {"node": {"id": "sidecar~1", "cluster": "c"}, "static_resources": {"clusters": []}}

    def facts(self, with_resources: bool = True) -> Facts:
        return self.found if with_resources else self.found._replace(resources=[])

    def is_draining(self) -> bool:
        return self.failing or bool(self.drains)

    def drain_listeners(self, inbound_only: bool, is_graceful: bool, stays: bool) -> None:
        self.drains.append((inbound_only, is_graceful, stays))

    def set_failing(self, is_failing: bool) -> None:
        self.failing = is_failing

    async def certificates(self) -> list[Any]:
        one = {
            "subject": "CN=a",
            "issuer": "CN=ca",
            "names": ["a.example", "10.0.0.1", "spiffe://cluster.local/ns/a/sa/b"],
            "serial": "7f",
            "fingerprint": "00",
            "is_ca": False,
            "not_before": "2026-11-01T00:00:00Z",
            "not_after": "2026-12-01T00:00:00Z",
            "days_left": 1.5,
            "file": "",
            "used_by": ["listener http cert_chain"],
        }
        return [one, {**one, "is_ca": True, "names": [], "file": "/ca.pem", "days_left": -3.0}]
