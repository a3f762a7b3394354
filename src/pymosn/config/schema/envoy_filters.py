# ruff: noqa: N815 - attribute names are Envoy's keys
"""`config` of the filters whose schema is Envoy's: `jwt_authn` and `rbac`."""

from typing import Annotated

import msgspec

from pymosn.config.schema.block import AnyMap, Duration, EnvoyBlock, Unsigned, own, works


class InlineJwks(EnvoyBlock, kw_only=True):
    """A key set in the configuration."""

    inlineString: str = ""


class HttpUri(EnvoyBlock, kw_only=True):
    """Where to ask, and through which cluster."""

    uri: str = ""
    cluster: str = ""
    timeout: Duration = 5.0


class RemoteJwks(EnvoyBlock, kw_only=True):
    """A key set that is fetched."""

    httpUri: HttpUri = msgspec.field(default_factory=HttpUri)
    cacheDuration: Annotated[Duration, works("0: 10 minutes; sooner when a token names a key that is not there")] = 0.0


class JwtHeader(EnvoyBlock, kw_only=True):
    """A header that may have a token."""

    name: str = ""
    valuePrefix: str = ""


class JwtProvider(EnvoyBlock, kw_only=True):
    """Who signs tokens, for whom, and where they are in a request."""

    issuer: Annotated[str, works("empty: any")] = ""
    audiences: Annotated[list[str], works("empty: any")] = []
    localJwks: InlineJwks | None = None
    remoteJwks: RemoteJwks | None = None
    forward: Annotated[bool, works("false: a good token is not sent on")] = False
    fromHeaders: list[JwtHeader] = []
    fromParams: list[str] = []
    forwardPayloadHeader: Annotated[str, works("base64url of the claims; the client's own field is removed")] = ""
    clockSkewSeconds: Annotated[Unsigned, works("0: 60")] = 0


class JwtRule(EnvoyBlock, kw_only=True):
    """What requests to some paths need."""

    match: Annotated[AnyMap, works("`prefix`, `path` or `safeRegex`, and `caseSensitive`")] = {}
    requires: Annotated[
        AnyMap | None,
        works(
            "`providerName`, `providerAndAudiences`, `requiresAny`, `requiresAll`, `allowMissing`, `allowMissingOrFailed`; "
            "none: nothing"
        ),
    ] = None


class JwtAuthn(EnvoyBlock, kw_only=True):
    """`jwt_authn`."""

    providers: dict[str, JwtProvider] = {}
    rules: list[JwtRule] = []


class RbacPolicy(EnvoyBlock, kw_only=True):
    """Who may do what."""

    permissions: Annotated[
        list[AnyMap],
        works("any, destination_ip, destination_port, header, url_path, and_rules, or_rules, not_rule; others are refused"),
    ] = []
    principals: Annotated[
        list[AnyMap],
        works("any, direct_remote_ip, source_ip, remote_ip, header, url_path, and_ids, or_ids, not_id; others are refused"),
    ] = []


class RbacRules(EnvoyBlock, kw_only=True):
    """Policies by name, and what becomes of the requests that they are about."""

    action: Annotated[str, works("ALLOW, DENY or LOG")] = "ALLOW"
    policies: dict[str, RbacPolicy] = {}


class Rbac(EnvoyBlock, kw_only=True):
    """`rbac`."""

    version: Annotated[str, works("not used; MOSN asks for it")] = ""
    rules: RbacRules | None = None
    shadow_rules: Annotated[RbacRules | None, works("counted only")] = None
    xff_num_trusted_hops: Annotated[
        Unsigned, own("proxies in front whose X-Forwarded-For is trusted for `remote_ip`; 0: the socket counts")
    ] = 0
