"""The active configuration, for a successor that keeps it instead of reading the file again (`--keep-config`).

It is that of the file with the changes of the admin API; what xDS has added is not part of it, because the control plane
sends it again. The successor checks it like that of a file.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from pymosn.config.diagnostics import Place, Places
from pymosn.config.load import Loaded, check_again, folder_of
from pymosn.config.schema import MosnConfig
from pymosn.core.errors import reason
from pymosn.filters.loading import FILTERS, installed
from pymosn.server.run_options import ConfigSource, with_bootstrap

#: The name of this kind of state.
CONFIG: Final = "config"


class CarriedConfig(msgspec.Struct, frozen=True):
    """`config`: a MosnConfig. The location of each value is the index of one of `files`, line and column.

    `config_files`: real paths that changes through the admin API must not name.
    """

    config: bytes
    files: list[str] = []
    places: dict[str, tuple[int, int, int]] = {}
    config_files: list[str] = []


def export_config(config: MosnConfig, places: Places, config_files: Collection[str]) -> bytes:
    """Encodes it; see `CarriedConfig`."""
    files = {file: index for index, file in enumerate(dict.fromkeys(place.file for place in places.values()))}
    found = {path: (files[place.file], place.line, place.column) for path, place in places.items()}
    return msgspec.msgpack.encode(CarriedConfig(msgspec.msgpack.encode(config), list(files), found, sorted(config_files)))


def load_kept(source: ConfigSource, content: bytes | None) -> tuple[Loaded, frozenset[str]]:
    """The configuration of the generation before, checked, and its files. `content`: as it was sent, None if it was not.

    If it cannot be read, or has keys that this version does not know, that is an error in the result: a key that is ignored
    could grant access.
    """
    try:
        if content is None:
            raise ValueError("it was not sent")
        carried = msgspec.msgpack.decode(content, type=CarriedConfig)
        config = msgspec.msgpack.decode(carried.config, type=MosnConfig)
        places = {path: Place(carried.files[file], *at) for path, (file, *at) in carried.places.items()}
        if msgspec.msgpack.decode(msgspec.msgpack.encode(config)) != msgspec.msgpack.decode(carried.config):
            raise ValueError("it has keys that this version does not know")
    except (ValueError, IndexError) as error:
        text = f"the active configuration cannot be used by the new process: {reason(error)}"
        return source.unreadable(f"{text}; upgrade without --keep-config"), frozenset()
    folder = "./conf" if source.path is None else folder_of(source.path)
    loaded = check_again(config, places, source.name, stream_filters=installed(FILTERS), config_dir=folder)
    return with_bootstrap(loaded), frozenset(carried.config_files)
