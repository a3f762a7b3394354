"""The kinds of state that one generation leaves to the next, and what exports and adopts each."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pymosn.control.health import HealthChecks
from pymosn.core.counters import GroupData
from pymosn.core.log import Log
from pymosn.observe.logs import LogSet
from pymosn.server.changes import Changes
from pymosn.server.draining import Draining
from pymosn.server.fleet import Fleet
from pymosn.server.logs import adopt_orders, export_orders
from pymosn.server.ticket_keys import TicketKeys
from pymosn.server.tls_files import TlsFiles
from pymosn.server.upgrade.carried import CarriedState, Kind
from pymosn.server.upgrade.kept_config import CONFIG


def carried_state(
    changes: Changes,
    tls_files: TlsFiles,
    fleet: Fleet,
    ticket_keys: TicketKeys,
    health: HealthChecks,
    draining: Draining,
    logs: LogSet,
    log_paths: Callable[[], Collection[str]],
    own_counts: Callable[[], list[GroupData]],
    log: Log,
) -> CarriedState:
    """All kinds, with the parts of a supervisor that they concern.

    `log_paths`: the paths of all processes' logs. `own_counts`: the metrics that the supervisor counts itself.
    """
    totals = fleet.totals
    totals.others = own_counts
    state = CarriedState(log)
    # A successor reads it before it has any of these parts: `kept_config.py`.
    state.add(Kind(CONFIG, changes.export, lambda content: None, in_thread=True))
    state.add(Kind("tls", lambda: tls_files.export(changes.material), tls_files.adopt))
    state.add(Kind("tickets", ticket_keys.export, ticket_keys.adopt, is_final=True))
    state.add(Kind("health", health.export, health.adopt, is_final=True))
    state.add(Kind("ejections", fleet.ejections.export, fleet.ejections.adopt, is_final=True))
    state.add(Kind("drain", draining.export, draining.adopt, is_final=True))
    state.add(
        Kind(
            "logs",
            lambda: export_orders(fleet.log_commands),
            lambda content: adopt_orders(content, log_paths(), logs, fleet.send),
            is_final=True,
        )
    )
    state.add(Kind("totals", totals.export, totals.adopt, is_final=True, is_repeated=True, begin=totals.begin))
    return state
