"""`rbac` of connections: access control by Envoy's policies (envoy.extensions.filters.network.rbac.v3)."""

from __future__ import annotations

from typing import Any, Final

from pymosn.api.connection_filter import ConnectionFilter, FilteredConnection, SharedState
from pymosn.core.failure import ACCESS_DENIED
from pymosn.filters.connection.session import session_of
from pymosn.filters.stream.envoy_match import EnvoyObject, plain
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.rbac import Judge, RuleSettings
from pymosn.filters.stream.rbac_policies import Policy, Rules

#: The namespace of what `shadow_rules` have decided, in the dynamic metadata of the connection.
NAMESPACE: Final = "envoy.filters.network.rbac"


class RbacState(SharedState):
    """The rules: `rules`, `shadow_rules` and `shadow_rules_stat_prefix`, as in the stream filter `rbac`."""

    def __init__(self, config: Any) -> None:
        """Raises FilterConfigError."""
        super().__init__(config)
        problems = Problems()
        settings = RuleSettings()
        with EnvoyObject(config, "", problems) as source:
            if "rules" in source:
                settings.rules = _rules(source.inner("rules"))
            if "shadow_rules" in source:
                settings.shadow_rules = _rules(source.inner("shadow_rules"))
            settings.shadow_rules_stat_prefix = source.take("shadow_rules_stat_prefix", str, "")
        problems.end()
        self.judge = Judge(settings)


def _rules(source: EnvoyObject) -> Rules:
    with source:
        made = Rules(action=source.take("action", str, "ALLOW"))
        policies = source.take("policies", dict, {})
        for name, value in policies.items():
            with EnvoyObject(value, f"{source.path}.policies.{name}", source.problems) as inner:
                permissions, principals = inner.take("permissions", list, []), inner.take("principals", list, [])
                for key, values in (("permissions", permissions), ("principals", principals)):
                    message = "a connection has no headers; rejected, because the rule would have no effect"
                    source.problems.require(not _names_header(values), f"{inner.path}.{key}", message)
                made.policies[str(name)] = Policy(permissions=permissions, principals=principals)
    return made


def _names_header(value: object) -> bool:
    """Whether a condition, or one within it, is about a header."""
    if isinstance(value, dict):
        return any(plain(str(key)) == "header" for key in value) or any(map(_names_header, value.values()))
    return isinstance(value, list) and any(map(_names_header, value))


class RbacConnectionFilter(ConnectionFilter):
    """Resets connections that the rules do not allow, before a byte of them is forwarded.

    Conditions on headers are rejected, as in Envoy, because a connection has none; those on paths hold for none.
    Cost per connection: the conditions up to the first match.
    """

    Shared = RbacState

    def on_connection(self, connection: FilteredConnection) -> None:
        what = f"connection from {connection.remote_ip}"
        if self.shared.judge.refuses(session_of(connection), self.context, NAMESPACE, what) is not None:
            connection.abort(ACCESS_DENIED)
