"""How much memory each worker may use, and how many workers fit into a container."""

from typing import Final

#: Memory reserved for the supervisor and the reaper, which have 50 and 11 MiB.
SUPERVISOR: Final = 64 << 20
#: Memory that a worker gets at least. One without filters has 38 MiB before its first request.
WORKER: Final = 64 << 20
#: Memory that no worker does without. With less for each, the kernel may kill the supervisor before it can tell why.
IDLE: Final = 32 << 20

#: The part of its memory above which a worker hardly serves, whatever the thresholds of `overload` are.
USABLE: Final = 0.9

MIB: Final = 1 << 20


def share_of(limit: int, workers: int) -> int:
    """One worker's share of a container's limit, in bytes."""
    return max(limit - SUPERVISOR, limit // 2) // max(1, workers)


def fitting(wanted: int, limit: int) -> tuple[int, str]:
    """How many of `wanted` workers fit into a container's limit, at least one, and why they are not all; 0: no limit."""
    count = max(1, min(wanted, share_of(limit, 1) // WORKER)) if limit > 0 else wanted
    if count == wanted:
        return count, ""
    needs = f"the supervisor needs {SUPERVISOR // MIB} MiB, and each worker {WORKER // MIB} MiB"
    return count, f"starting {count} instead of {wanted} workers: the memory limit is {limit // MIB} MiB; {needs}"


def too_small(limit: int) -> str:
    """Explains that a container's limit is too small for any worker; empty if it may do, or is 0: no limit."""
    if limit <= 0 or share_of(limit, 1) >= IDLE:
        return ""
    return (
        f"the memory limit is {limit // MIB} MiB, too little for the supervisor and one worker;"
        f" {(SUPERVISOR + WORKER) // MIB} MiB are enough, and {WORKER // MIB} MiB for each further worker"
    )


def shortage(needed: int, when: str, configured: int, container: int, workers: int) -> str:
    """Explains that a worker uses more than the usable part of its share.

    `when`: for the text, such as "with this configuration and the active one". All but it and `workers` in bytes.
    `configured`: `overload.memory_limit`; if it is 0, the share is one of `container`.
    """
    text = f"a worker uses {-(-needed // MIB)} MiB {when}, too much for"
    if configured > 0:
        return f"{text} servers[0].overload.memory_limit, which is {configured // MIB} MiB"
    for_all = share_of(container, 1)
    fit = int(for_all * USABLE) // needed
    advice = f"; {fit} would have enough" if 0 < fit < workers else ""
    return (
        f"{text} its share of the memory limit, which is {share_of(container, workers) // MIB} MiB:"
        f" ({container // MIB} MiB - {(container - for_all) // MIB} MiB for the supervisor) / {workers} workers{advice}"
    )
