# ruff: noqa: N815 - attribute names are MOSN's keys
"""`config` of stream and listener filters, by name: that of shipped filters is in their own files (`filters/stream`)."""

from typing import Annotated, Any, ClassVar, Final

from pymosn.config.schema.extensions import WasmVm
from pymosn.filters.settings import AnyMap, Block, Unsigned, ignored, works
from pymosn.filters.stream.shipped import SHIPPED, spec_of


class Dsl(Block, kw_only=True):
    before_router_by_dsl: str = ""
    after_router_by_dsl: str = ""
    after_balancer_by_dsl: str = ""
    send_filter_by_dsl: str = ""
    log_filter_by_dsl: str = ""
    debug: Annotated[Any, ignored("MOSN does not use it either")] = None


class Seata(Block, kw_only=True):
    addressing: str = ""
    serverAddressing: str = ""
    commitRetryCount: int = 0
    rollbackRetryCount: int = 0
    clientParameters: AnyMap = {}
    transactionInfos: list[AnyMap] = []
    tccResources: list[AnyMap] = []


class ProxyWasm(Block, kw_only=True):
    """`proxywasm`; all other keys go to the plugin."""

    open_keys: ClassVar[bool] = True
    from_wasm_plugin: str = ""
    vm_config: WasmVm | None = None
    instance_num: Unsigned = 0
    root_context_id: Annotated[int, works("default 1")] = 1


class OpenConfig(Block, kw_only=True):
    """A configuration in another system's schema (Envoy's, Istio's), or none at all."""

    open_keys: ClassVar[bool] = True


class OriginalDst(Block, kw_only=True):
    """`original_dst`, a listener filter."""

    type: str = "redirect"
    fallback_to_local: bool = False


#: Filters of MOSN that are not implemented yet; a file that uses one is rejected.
PLANNED: Final[dict[str, type[Block]]] = {
    "dsl": Dsl,
    "seata": Seata,
    "proxywasm": ProxyWasm,
    "mixer": OpenConfig,
}
#: Names of all stream filters of MOSN and pymosn.
STREAM_FILTERS: Final = (*SHIPPED, *PLANNED)
#: Names in MOSN's samples for which MOSN has no filter.
NO_OP_STREAM_FILTERS: Final = frozenset({"healthcheck"})

LISTENER_FILTERS: Final[dict[str, type[Block]]] = {"original_dst": OriginalDst}


def stream_filter_settings(name: str) -> type[Block] | None:
    """The block of a stream filter's `config`; None for filters of installed packages and unknown ones."""
    return spec_of(name).settings if name in SHIPPED else PLANNED.get(name)
