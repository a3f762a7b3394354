"""Fields of Envoy's messages that may be ignored, each with the reason. All others must be read, or reject their resource.

docs/xds-fields.md is generated from this table and from what the converters read.
"""

from collections.abc import Mapping
from typing import Final

#: Full name of the field -> why ignoring it is harmless.
HARMLESS: Final[Mapping[str, str]] = {
    "envoy.config.cluster.v3.Cluster.alt_stat_name": "names Envoy's statistics",
}
