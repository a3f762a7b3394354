"""The clusters and listeners of `static_resources`, which are converted and checked like those of a control plane."""

from __future__ import annotations

import time
from typing import Final

from pymosn.config.diagnostics import Diagnostic
from pymosn.control.xds.accepting import Acceptor
from pymosn.control.xds.bootstrap import Bootstrap
from pymosn.control.xds.convert.kinds import KINDS
from pymosn.control.xds.types import CLUSTER, LISTENER, Resource, Update

#: MOSN makes no cluster of this static one.
NO_CLUSTER: Final = "zipkin"


def static_faults(found: Bootstrap) -> list[Diagnostic]:
    """An error for each static resource that cannot be used."""
    # They are the operator's own, which may name any file.
    acceptor = Acceptor(KINDS, lambda config: [])
    faults: list[Diagnostic] = []
    for key, kind, resources in (("clusters", CLUSTER, found.clusters), ("listeners", LISTENER, found.listeners)):
        used = [Resource(name, "static", body) for name, body in resources if (kind, name) != (CLUSTER, NO_CLUSTER)]
        update = Update(kind, "static", used)
        rejected = acceptor.accept(update, {}, time.monotonic(), is_trusted=True).rejected
        names = [name for name, _ in resources]
        faults += [
            Diagnostic(path=f"static_resources.{key}[{names.index(name)}]", message=f"{name}: {why}")
            for name, why in rejected.items()
        ]
    return faults
