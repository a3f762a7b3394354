"""The groups about filters that routes enable, disable and configure by their names."""

from __future__ import annotations

from typing import Any

from interop.xds_groups import Json, group, route, to, virtual_host

_TYPE = "type.googleapis.com/envoy.extensions.filters.http."
_WRAPPER = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
_ROUTER: Json = {"name": "router", "typed_config": {"@type": f"{_TYPE}router.v3.Router"}}
_EVERYONE: Json = {"permissions": [{"any": True}], "principals": [{"any": True}]}
_OFF: Json = {"@type": _WRAPPER, "disabled": True}
_ON: Json = {"@type": _WRAPPER, "config": {}}


def _rules(action: str) -> Json:
    return {"rules": {"action": action, "policies": {"everyone": _EVERYONE}}}


def _rbac(name: str, **more: Any) -> Json:
    """A filter that denies everything unless the route has other rules for it."""
    return {"name": name, "typed_config": {"@type": f"{_TYPE}rbac.v3.RBAC", **_rules("DENY")}, **more}


def _allows() -> Json:
    return {"@type": f"{_TYPE}rbac.v3.RBACPerRoute", "rbac": _rules("ALLOW")}


def _lets(**filters: Json) -> Json:
    return {"typed_per_filter_config": filters}


FILTERS = group(
    "filters",
    [
        virtual_host(
            "filters",
            [
                route("one", "/one", **_lets(first=_allows())),
                route("both", "/both", **_lets(first=_allows(), second=_allows())),
                route("off", "/off", **_lets(first=_OFF, second=_OFF)),
                route("half", "/half", **_lets(first=_OFF)),
                route("other", "/other", **_lets(third=_OFF, first=_allows())),
                route("on", "/on", **_lets(first=_OFF, second=_OFF, third=_ON)),
                route("settings", "/settings", **_lets(first=_OFF, second=_OFF, third=_allows())),
                route(
                    "weighted",
                    "/weighted",
                    to(
                        "",
                        weighted_clusters={
                            "clusters": [{"name": "a", "weight": 1, **_lets(first=_OFF, second=_OFF, third=_OFF)}]
                        },
                    ),
                    **_lets(third=_ON),
                ),
                route("none", "/"),
            ],
        ),
        virtual_host(
            "outer",
            [
                route("outer", "/outer"),
                route("on", "/on", **_lets(second=_ON)),
                route("settings", "/settings", **_lets(second={"@type": _WRAPPER, "config": _allows()})),
            ],
            **_lets(first=_OFF, second=_OFF),
        ),
        virtual_host("table", [route("table", "/table"), route("again", "/again", **_lets(first=_ON, second=_ON))]),
    ],
    """
    /one
    /both
    /off
    /half
    /other
    /on
    /settings
    /weighted
    /none
    outer.test /outer
    outer.test /on
    outer.test /settings
    table.test /table
    table.test /again
    none.test /
    """,
    hcm={"http_filters": [_rbac("first"), _rbac("second"), _rbac("third", disabled=True), _ROUTER]},
    table=_lets(first=_OFF),
)
