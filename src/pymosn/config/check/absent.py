"""What MOSN has and pymosn has not, outside of listeners and `extends`: a warning for each names what to use instead."""

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import MosnConfig, absent


def check_absent(config: MosnConfig, report: Diagnostics) -> None:
    """Reports codecs and trace drivers that are not built."""
    if config.third_part_codec is not None:
        for i, codec in enumerate(config.third_part_codec.codecs):
            if codec.enable and codec.type in absent.CODECS:
                report.warning(f"third_part_codec.codecs[{i}]", absent.CODECS[codec.type], codec.type)
    tracing = config.tracing
    if tracing is not None and tracing.enable and tracing.driver in absent.TRACE_DRIVERS:
        report.warning("tracing.driver", absent.TRACE_DRIVERS[tracing.driver], tracing.driver)
