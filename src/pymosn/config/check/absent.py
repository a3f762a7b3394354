"""What MOSN has and pymosn has not, outside of listeners, `extends` and `tracing`: warnings name what to use instead."""

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import MosnConfig, absent


def check_absent(config: MosnConfig, report: Diagnostics) -> None:
    """Reports codecs that are not built."""
    if config.third_part_codec is not None:
        for i, codec in enumerate(config.third_part_codec.codecs):
            if codec.enable and codec.type in absent.CODECS:
                report.warning(f"third_part_codec.codecs[{i}]", absent.CODECS[codec.type], codec.type)
