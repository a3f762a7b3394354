"""Extension points of the top level: `extends`, of which only `python` works, `wasm_global_plugins`, `third_part_codec`."""

from typing import Annotated, Any, Final

import msgspec

from pymosn.config.schema.tls import TlsContext
from pymosn.filters.settings import AnyMap, Block, Duration, Port, Unsigned, ignored, own, works


class WasmVm(Block, kw_only=True):
    """The virtual machine of a wasm plugin."""

    engine: str = ""
    path: str = ""
    url: Annotated[str, ignored("not implemented in MOSN either")] = ""
    md5: str = ""
    cpu: Annotated[int, ignored("MOSN does not use it either")] = 0
    mem: Annotated[int, ignored("MOSN does not use it either")] = 0


class WasmPlugin(Block, kw_only=True):
    """A wasm plugin that filters and codecs can refer to."""

    plugin_name: str = ""
    instance_num: Unsigned = 0
    vm_config: WasmVm | None = None


class Codec(Block, kw_only=True):
    """A protocol from a Go plugin or a wasm file."""

    enable: bool = False
    type: str = ""
    path: str = ""
    loader_func_name: str = "LoadCodec"
    config: AnyMap = {}


class ThirdPartCodecs(Block, kw_only=True):
    """External protocols."""

    codecs: list[Codec] = []


class Extend(Block, kw_only=True):
    """An extension of the process: one of pymosn in Python, or one that is compiled into MOSN."""

    type: str = ""
    config: Any = None


#: The type of extensions in Python.
PYTHON: Final = "python"


class PythonExtension(Block, kw_only=True):
    """`config` of `python`: a class in a file, or one of an installed package."""

    path: Annotated[str, own("Python file; relative to the configuration file")] = ""
    class_: Annotated[str, own("class in it, derived from `pymosn.api.Extension`")] = msgspec.field(default="", name="class")
    name: Annotated[str, own("instead of both: an extension that an installed package offers")] = ""
    config: Annotated[AnyMap, own("settings of the extension itself")] = {}

    def known_name(self) -> str:
        """Its name in logs."""
        return self.name or self.class_


class DynamicServers(Block, kw_only=True):
    """A compiled-in lister of tunnel servers."""

    dynamic_server_lister: str = ""


class TunnelAgent(Block, kw_only=True):
    """`config` of `tunnel_agent`: the dialling side of reverse tunnels."""

    enable: bool = False
    connection_num: Unsigned = 0
    cluster: str = ""
    hosting_listener: str = ""
    server_list: list[str] = []
    dynamic_server_list_config: DynamicServers | None = None
    connect_retry_times: Annotated[Unsigned, works("0 means unlimited")] = 0
    reconnect_base_duration: Duration = 3.0
    connect_timeout_duration: Duration = 15.0
    credential_policy: str = ""
    graceful_close_max_wait_duration: Duration = 15.0
    tls_context: TlsContext | None = None


class DubboRegistry(Block, kw_only=True):
    enable: bool = False
    server_port: Port = 0
    api_port: Port = 22222
    log_path: str = ""


class HolmesProfile(Block, kw_only=True):
    """When one kind of profile is written."""

    Enable: bool = False
    TriggerMin: int = 0
    TriggerAbs: int = 0
    TriggerDiff: int = 0
    CoolDown: Any = None


class ShrinkThreadConfig(Block, kw_only=True):
    """When idle threads are ended."""

    Enable: bool = False
    Threshold: int = 0
    Delay: Any = None


class Holmes(Block, kw_only=True):
    """`config` of `holmes`, Go's self-profiling."""

    Enable: bool = False
    DumpPath: str = ""
    BinaryDump: bool = False
    FullStackDump: bool = False
    CollectInterval: Any = None
    CPUMax: int = 0
    CPUProfile: HolmesProfile | None = None
    MemProfile: HolmesProfile | None = None
    GCHeapProfile: HolmesProfile | None = None
    GoroutineProfile: HolmesProfile | None = None
    ThreadProfile: HolmesProfile | None = None
    GoroutineTriggerNumMax: int = 0
    ShrinkThread: ShrinkThreadConfig | None = None


class TranscoderSource(Block, kw_only=True):
    """A transcoder in a Go shared object."""

    src_protocol: str = ""
    dst_protocol: str = ""
    so_path: str = ""


class TranscoderPlugin(Block, kw_only=True):
    transcoders: list[TranscoderSource] = []


EXTENDS: dict[str, type[Block]] = {
    PYTHON: PythonExtension,
    "tunnel_agent": TunnelAgent,
    "dubbo_registry": DubboRegistry,
    "holmes": Holmes,
    "transcoder_plugin": TranscoderPlugin,
}
