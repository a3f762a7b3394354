"""All TLS contexts of a configuration, and the texts in them that name a file or are PEM themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from pymosn.config.schema import Cluster, ClusterManager, Listener, MosnConfig
from pymosn.config.schema.cluster import TlsMatch
from pymosn.config.schema.server import FilterChain
from pymosn.config.schema.tls import TlsContext

#: The keys of a context that are a path or PEM text.
PEM_KEYS: Final = ("ca_cert", "cert_chain", "private_key", "crl")
#: What PEM text contains, and a path does not (as MOSN distinguishes them).
PEM_MARK: Final = "-----BEGIN"

#: Base64 of a certificate or key, which always begins like this.
_BARE: Final = re.compile(r"MI[A-Za-z0-9+/=\s]{62,}")

Edit = Callable[[TlsContext], TlsContext]


class PemText(NamedTuple):
    """One text of a context. `where`: its path in MOSN's keys; `key`: the last one of these; `text`: a path, or PEM."""

    where: str
    key: str
    text: str
    context: TlsContext

    @property
    def is_path(self) -> bool:
        return PEM_MARK not in self.text


def is_bare(text: str) -> bool:
    """Whether a text is PEM without its first and last line. It is no path, and must not be shown: it may be a key."""
    return _BARE.fullmatch(text.strip()) is not None or (PEM_MARK not in text and "\n" in text.strip())


def tls_contexts(config: MosnConfig) -> Iterator[tuple[str, TlsContext]]:
    """All contexts with `status: true`, with their paths in MOSN's keys."""
    for where, context in _all_contexts(config):
        if context is not None and context.status:
            yield where, context


def _all_contexts(config: MosnConfig) -> Iterator[tuple[str, TlsContext | None]]:
    for i, listener in enumerate(config.servers[0].listeners if config.servers else ()):
        for j, chain in enumerate(listener.filter_chains):
            path = f"servers[0].listeners[{i}].filter_chains[{j}]"
            for key, context in chain.keyed_contexts():
                yield f"{path}.{key}", context
    yield "cluster_manager.tls_context", config.cluster_manager.tls_context
    clusters = config.cluster_manager.clusters
    # Of thousands, most have none.
    for i in [i for i, one in enumerate(clusters) if one.tls_context is not None or one.tls_matches]:
        cluster = clusters[i]
        yield f"cluster_manager.clusters[{i}].tls_context", cluster.tls_context
        for j, match in enumerate(cluster.tls_matches):
            yield f"cluster_manager.clusters[{i}].tls_matches[{j}].tls_context", match.tls_context


def pem_texts(config: MosnConfig) -> Iterator[PemText]:
    """The texts of all contexts with `status: true`, without empty ones."""
    for where, context in tls_contexts(config):
        for key in PEM_KEYS:
            text = getattr(context, key)
            if text:
                yield PemText(f"{where}.{key}", key, text, context)


def cluster_tls(cluster: Cluster, manager: ClusterManager) -> TlsContext | None:
    """The context that a cluster uses: its own, or with `cluster_manager_tls` that of the cluster manager."""
    context = manager.tls_context if cluster.cluster_manager_tls else cluster.tls_context
    return context if context is not None and context.status else None


def edit_match(match: TlsMatch, edit: Edit) -> TlsMatch:
    """TLS of some hosts of a cluster with another context; the same object if it has none."""
    return match if match.tls_context is None else replace(match, tls_context=edit(match.tls_context))


def cluster_contexts(cluster: Cluster) -> list[TlsContext]:
    """The contexts of a cluster itself: its own, and those of some hosts."""
    found = [cluster.tls_context, *(match.tls_context for match in cluster.tls_matches)]
    return [context for context in found if context is not None]


def edit_cluster(cluster: Cluster, edit: Edit) -> Cluster:
    """A cluster with other contexts; the same object if it has none."""
    if not cluster_contexts(cluster):
        return cluster
    own = None if cluster.tls_context is None else edit(cluster.tls_context)
    return replace(cluster, tls_context=own, tls_matches=[edit_match(match, edit) for match in cluster.tls_matches])


def edit_listener(listener: Listener, edit: Edit) -> Listener:
    """A listener with other contexts; the same object if it has none."""
    chains = [_edit_chain(chain, edit) for chain in listener.filter_chains]
    is_same = all(old is new for old, new in zip(listener.filter_chains, chains, strict=True))
    return listener if is_same else replace(listener, filter_chains=chains)


def _edit_chain(chain: FilterChain, edit: Edit) -> FilterChain:
    if chain.tls_context is None and not chain.tls_context_set:
        return chain
    single = edit(chain.tls_context) if chain.tls_context is not None else None
    return replace(chain, tls_context=single, tls_context_set=[edit(context) for context in chain.tls_context_set])
