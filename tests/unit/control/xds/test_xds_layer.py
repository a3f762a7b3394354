"""The configuration of the file joined with what xDS adds."""

from msgspec.structs import replace

from pymosn.config.schema import Cluster, FilterChain, Host, Listener, MosnConfig, RouterConfiguration, Server, TlsContext
from pymosn.config.schema.cluster import ClusterManager
from pymosn.config.schema.network_filters import StreamProxyConfig, TcpProxyFilter
from pymosn.config.schema.tls import SecretSource, SecretSources
from pymosn.config.sds import SecretKey, SecretTexts, source_of
from pymosn.control.xds.layer import CLUSTER, LISTENER, Layer, Merger, Owner

OWN = MosnConfig(
    servers=[Server(listeners=[Listener(name="a")], routers=[RouterConfiguration(router_config_name="r")])],
    cluster_manager=ClusterManager(clusters=[Cluster(name="c")]),
)
SDS = SecretSources(CertificateConfig=SecretSource(name="cert", sdsConfig={"ads": {}}))
KEY = SecretKey("ads", "cert")
PAIR = SecretTexts("-----BEGIN c", "-----BEGIN k")


def names(config: MosnConfig) -> list[str]:
    server = config.servers[0]
    found = [listener.name for listener in server.listeners] + [table.router_config_name for table in server.routers]
    return found + [cluster.name for cluster in config.cluster_manager.clusters]


def test_an_empty_layer_changes_nothing() -> None:
    assert Merger().merge(OWN, Layer()).config is OWN


def test_items_are_added_after_those_of_the_file() -> None:
    layer = Layer(
        {"b": Listener(name="b")}, {"s": RouterConfiguration(router_config_name="s")}, {"d": Cluster(name="d", hosts=[])}
    )
    merged = Merger().merge(OWN, layer)
    assert names(merged.config) == ["a", "b", "r", "s", "c", "d"]
    assert merged.owner_at("servers[0].listeners[1].filter_chains[0]") == Owner(LISTENER, "b")
    assert merged.owner_at("servers[0].routers[1]") == Owner("table", "s")
    assert merged.owner_at("cluster_manager.clusters[1].hosts[0]") == Owner(CLUSTER, "d")
    assert merged.owner_at("cluster_manager.clusters[0]") is None
    assert merged.config.servers[0].listeners[0] is OWN.servers[0].listeners[0]


def test_an_item_of_the_file_wins() -> None:
    layer = Layer(listeners={"a": Listener(name="a", address="x")}, clusters={"c": Cluster(name="c", type="EDS")})
    merged = Merger().merge(OWN, layer)
    assert merged.config == OWN
    assert merged.shadowed == [Owner(LISTENER, "a"), Owner(CLUSTER, "c")]


def test_the_same_configuration_and_layer_are_the_same_object() -> None:
    merger, layer = Merger(), Layer(clusters={"d": Cluster(name="d")})
    assert merger.merge(OWN, layer) is merger.merge(OWN, layer)


def test_an_item_that_cannot_be_activated_keeps_its_last_good_state() -> None:
    good = Layer(clusters={"c": Cluster(name="c"), "gone": Cluster(name="gone")})
    bad = Layer(clusters={"c": Cluster(name="c", type="EDS"), "new": Cluster(name="new")})
    assert bad.reverted(Owner(CLUSTER, "c"), good).clusters["c"] is good.clusters["c"]
    assert list(bad.reverted(Owner(CLUSTER, "new"), good).clusters) == ["c"]


def chain(*contexts: TlsContext) -> FilterChain:
    filters = [TcpProxyFilter(config=StreamProxyConfig(cluster="c"))]
    return FilterChain(name="one", tls_context_set=list(contexts), filters=filters)


def test_contexts_get_their_secrets_when_they_are_there() -> None:
    waiting, ready = TlsContext(status=True, sds_source=SDS), TlsContext(status=True, cert_chain="c", private_key="k")
    listener = Listener(name="b", filter_chains=[chain(waiting), chain(ready), chain(ready, waiting)])
    merger = Merger()
    merged = merger.merge(OWN, Layer(listeners={"b": listener}))
    assert merged.config.servers[0].listeners[1].filter_chains == listener.filter_chains
    assert merged.missing == {KEY: ["b"] * 2}
    complete = merger.merge(OWN, Layer(listeners={"b": listener}, secrets={KEY: PAIR}))
    context = complete.config.servers[0].listeners[1].filter_chains[0].tls_context_set[0]
    assert (context.cert_chain, context.private_key, context.sds_source) == ("-----BEGIN c", "-----BEGIN k", None)
    assert not complete.missing


def test_a_cluster_of_the_file_gets_its_secret() -> None:
    context = TlsContext(status=True, sds_source=SDS)
    cluster = Cluster(name="c", type="ORIGINAL_DST", hosts=[Host(address="127.0.0.1:1")], tls_context=context)
    own = replace(OWN, cluster_manager=ClusterManager(clusters=[cluster]))
    found = Merger().merge(own, Layer()).config.cluster_manager.clusters[0]
    assert found.tls_context == context
    rotated = Merger().merge(own, Layer(secrets={KEY: PAIR})).config.cluster_manager.clusters[0]
    assert rotated.tls_context is not None
    assert rotated.tls_context.cert_chain == PAIR.cert_chain
    assert rotated.hosts == cluster.hosts


def test_what_keeps_its_secrets_stays_the_same_object() -> None:
    context = TlsContext(status=True, sds_source=SDS)
    listener, merger = Listener(name="b", filter_chains=[chain(context)]), Merger()
    first = merger.merge(OWN, Layer(listeners={"b": listener}, secrets={KEY: PAIR}))
    second = merger.merge(OWN, Layer(listeners={"b": listener}, secrets={KEY: PAIR}, clusters={"d": Cluster(name="d")}))
    assert first.config.servers[0].listeners[1] is second.config.servers[0].listeners[1]


def test_sources_of_secrets() -> None:
    assert source_of({"ads": {}}) == "ads"
    google = {"grpcServices": [{"googleGrpc": {"targetUri": "/var/run/sds", "statPrefix": "s"}}], "apiType": "GRPC"}
    assert source_of({"apiConfigSource": google}) == "unix:/var/run/sds"
    envoy = {"api_config_source": {"grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]}}
    assert source_of(envoy) == "cluster:sds-grpc"
    assert source_of(envoy, in_file=True) == "unix:./etc/istio/proxy/SDS"
