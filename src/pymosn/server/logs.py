"""The logs of the proxy: where they are, and the opened ones of one process, supervisor or worker."""

import os

from pymosn.config.schema import MosnConfig
from pymosn.observe.logs import LogSet
from pymosn.observe.process_log import LEVELS


def open_logs(config: MosnConfig, base_dir: str, ceiling: str | None = None) -> LogSet:
    """Opens the process log. `ceiling`: the most talkative level allowed, by the names of `--log-level`.

    OSError when it cannot be opened.
    """
    level = config.servers[0].default_log_level
    # An unknown level is INFO in MOSN; loading the configuration has warned of it.
    return LogSet(process_log_path(config, base_dir), level if level in LEVELS else "INFO", ceiling)


def process_log_path(config: MosnConfig, base_dir: str) -> str:
    """Where the process log goes, by default `<base_dir>/logs/mosn.log`."""
    return config.servers[0].default_log_path or os.path.join(base_dir, "logs", "mosn.log")


def log_paths(config: MosnConfig, base_dir: str) -> list[str]:
    """The process log's path and those of all access logs, each once."""
    paths = [process_log_path(config, base_dir)]
    for listener in config.servers[0].listeners:
        default = os.path.join(base_dir, "logs", f"{listener.name or listener.address}_access.log")
        paths += [access_log.log_path or default for access_log in listener.access_logs]
    return list(dict.fromkeys(paths))
