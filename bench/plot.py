"""The results as a plot: one panel per case, one bar per peer."""

from pathlib import Path

from bench.cases import LOAD_CASES, MEMORY
from bench.install import pip_install
from bench.samples import Results, middle
from bench.void import Unavailable

USER_COLOUR, SYSTEM_COLOUR, MEMORY_COLOUR = "#3566a8", "#a9c4e6", "#6b8f5a"


def write_plot(path: Path, results: Results) -> None:
    """Draws to `path`, in the format of its suffix. Raises Unavailable if matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        pip_install("matplotlib")
        import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = [case for case in LOAD_CASES if results.load.get(case.name)]
    memory = results.memory.get(MEMORY)
    panels = len(cases) + bool(memory)
    if panels == 0:
        raise Unavailable("nothing to draw: there is no valid run")
    figure, grid = pyplot.subplots((panels + 1) // 2, 2, figsize=(12, 2.6 * ((panels + 1) // 2)), squeeze=False)
    axes = list(grid.flat)
    for axis, case in zip(axes, cases, strict=False):
        peers = list(results.load[case.name])
        samples = results.load[case.name].values()
        user = [middle(each, lambda sample: sample.user) for each in samples]
        system = [middle(each, lambda sample: sample.system) for each in samples]
        axis.barh(peers, user, color=USER_COLOUR, label="user")
        axis.barh(peers, system, left=user, color=SYSTEM_COLOUR, label="system")
        axis.set_title(case.title, fontsize=10)
        axis.set_xlabel("CPU us per request", fontsize=8)
    if cases:
        axes[0].legend(fontsize=8)
    if memory:
        axis = axes[len(cases)]
        sizes = [measured.each / 1024 for measured in memory.values()]
        axis.barh(list(memory), sizes, color=MEMORY_COLOUR)
        axis.set_title("worker memory per idle keep-alive connection", fontsize=10)
        axis.set_xlabel("KiB", fontsize=8)
    for axis in axes[:panels]:
        axis.invert_yaxis()
        axis.tick_params(labelsize=8)
    for axis in axes[panels:]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
