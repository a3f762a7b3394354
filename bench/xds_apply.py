"""The supervisor's work for one endpoint's change: `python bench/xds_apply.py [clusters] [hosts per cluster]`.

The workers are replaced by one that only counts, so that this is what happens in the supervisor, from the accepted update to
the commands in the channels.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from msgspec.structs import replace

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import load_text
from pymosn.config.schema import Cluster, Host
from pymosn.control.discovery import Discovery
from pymosn.control.xds.layer import Layer
from pymosn.core.clock import Clock
from pymosn.core.log import Log
from pymosn.server.changes import Changes
from pymosn.server.filter_files import FilterFiles
from pymosn.server.fleet import Fleet
from pymosn.server.listeners import ListenerSockets
from pymosn.server.run_options import ConfigSource, RunOptions
from pymosn.server.tls_files import TlsFiles


async def main(clusters: int, hosts: int, rounds: int = 20) -> None:
    """Prints the CPU time of the first change, and the median and maximum of `rounds` changes of one endpoint."""
    config = load_text(DEFAULT_CONFIG, DEFAULT_NAME).config
    assert config is not None
    options = RunOptions(source=ConfigSource("f.json"), config=config, config_dir="/", base_dir="/")
    clock = Clock()
    loop = asyncio.get_running_loop()
    fleet = Fleet(0, lambda *_: None, lambda worker: [], loop.call_later, clock, Log())  # type: ignore[arg-type, return-value]
    changes = Changes(
        options,
        fleet,
        ListenerSockets(),
        FilterFiles("."),
        TlsFiles(config, "/"),
        Discovery(lambda cluster: None, Log()),
        lambda config: None,
        Log(),
    )
    await changes.start()
    made = {
        f"c{i}": Cluster(
            name=f"c{i}", hosts=[Host(address=f"10.{i >> 8 & 255}.{i & 255}.{j}:80") for j in range(1, hosts + 1)]
        )
        for i in range(clusters)
    }
    layer = Layer(clusters=made)
    began = time.process_time()
    await changes.apply_layer(layer)
    print(f"{clusters} clusters, {clusters * hosts} hosts: first change {(time.process_time() - began) * 1e3:.0f} ms")
    times = []
    for i in range(rounds):
        name = f"c{i * 7 % clusters}"
        block = replace(made[name], hosts=[*made[name].hosts, Host(address=f"10.255.0.{i + 1}:80")])
        made = {**made, name: block}
        began = time.process_time()
        await changes.apply_layer(Layer(clusters=made))
        times.append((time.process_time() - began) * 1e3)
    print(f"one endpoint: median {statistics.median(times):.1f} ms, maximum {max(times):.1f} ms")


if __name__ == "__main__":
    asyncio.run(main(*(int(text) for text in (sys.argv[1:] or ["10000", "10"]))))
