"""The source of the configuration: read once at the start, and again at each reload."""

import os

import msgspec

from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import Loaded, load_file, load_text
from pymosn.filters.loading import FILTERS, installed


class ConfigSource(msgspec.Struct, frozen=True):
    """A file, or the built-in example if `path` is None. `strict`: treat unknown keys as errors."""

    path: str | None
    strict: bool = False

    @property
    def name(self) -> str:
        """The name of the configuration in messages."""
        return self.path or DEFAULT_NAME

    def load(self) -> Loaded:
        """Reads and checks the configuration."""
        filters = installed(FILTERS)
        if self.path is not None:
            return load_file(self.path, strict=self.strict, stream_filters=filters)
        # Its `base_dir` is the current directory, so that `logs/` is created there and not next to it.
        config_dir = os.path.join(".", "conf")
        return load_text(DEFAULT_CONFIG, DEFAULT_NAME, strict=self.strict, stream_filters=filters, config_dir=config_dir)
