"""The recipes of docs/recipes.md in the real program: one process, one listener for each."""

import base64
import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from pymosn_process import READY, Pymosn, _listener, _table, eventually, free_ports
from recipe_upstream import RecipeUpstream

from pymosn.filters.loading import load_filter

RECIPES = Path(__file__).parents[2] / "examples" / "filters" / "recipes"
SECRET = "a secret of thirty-two letters or more"
JWKS = {"keys": [{"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")}]}
AUTHN = {
    "type": "jwt_authn",
    "config": {
        "providers": {"main": {"localJwks": {"inlineString": json.dumps(JWKS)}}},
        "rules": [{"match": {"prefix": "/free"}}, {"match": {"prefix": "/"}, "requires": {"providerName": "main"}}],
    },
}
POST_JSON = {"content-type": "application/json"}


class Answer:
    """A reply as its client sees it."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {key.lower(): value for key, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class Recipes:
    """The running program, with all its surroundings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = RecipeUpstream("service")
        self.other = RecipeUpstream("other")
        chains = self._chains()
        self.ports = dict(zip(chains, free_ports(len(chains)), strict=True))
        path = folder / "config.json"
        path.write_text(json.dumps(self._config(chains)))
        self.program = Pymosn(["-c", str(path)], folder, {})
        self.program.wait_for(READY)

    def _chains(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Class and configuration of each recipe."""
        replicas = [self.service.address, self.other.address]
        return {
            "jwt_claims": ("JwtClaims", {"provider": "main", "headers": {"x-user": "sub"}}),
            "tenant_routing": ("TenantRouting", {"tenants": {"acme": "other", "corp": "service"}}),
            "canary": ("Canary", {"cluster": "other", "percent": 100}),
            "rewriting": ("Rewriting", {"rules": [{"path": r"/v1/(.*)", "to": r"/\1"}], "without": ["utm"]}),
            "prefix_hash": ("PrefixHash", {"hosts": replicas, "prefix": 50}),
            "audit_log": ("AuditLog", {"file": str(self.folder / "audit.json"), "headers": ["x-user"]}),
        }

    def _config(self, chains: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        hosts = {"service": [self.service], "other": [self.other], "replicas": [self.service, self.other]}
        return {
            "servers": [
                {
                    "default_log_path": "stdout",
                    "graceful_timeout": "5s",
                    "processor": 1,
                    "watch_filters": False,
                    "routers": [_table(name, name) for name in ("service", "replicas")],
                    "listeners": [self._listener(name, kind, config) for name, (kind, config) in chains.items()],
                }
            ],
            "cluster_manager": {
                "clusters": [
                    {
                        "name": name,
                        "type": "SIMPLE",
                        "lb_type": "LB_RANDOM",
                        "hosts": [{"address": u.address} for u in peers],
                    }
                    for name, peers in hosts.items()
                ]
            },
        }

    def _listener(self, name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
        cluster = "replicas" if name == "prefix_hash" else "service"
        entry = {"type": "python", "config": {"path": str(RECIPES / f"{name}.py"), "class": kind, **config}}
        return _listener(name, self.ports[name], cluster, [AUTHN, entry] if name == "jwt_claims" else [entry])

    def ask(self, recipe: str, path: str = "/", headers: dict[str, str] | None = None, body: str | None = None) -> Answer:
        """One request through a recipe: a POST when there is a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[recipe], timeout=20)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def close(self) -> None:
        self.program.end()
        for server in (self.service, self.other):
            server.close()


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recipes]:
    running = Recipes(tmp_path_factory.mktemp("recipes"))
    yield running
    running.close()


def test_every_recipe_is_here(recipes: Recipes) -> None:
    assert {path.stem for path in RECIPES.glob("*.py")} == set(recipes.ports)


def test_jwt_claims(recipes: Recipes) -> None:
    good, late = (jwt.encode({"sub": "eve", "exp": exp}, SECRET, "HS256") for exp in (4102444800, 1000000000))
    got = recipes.ask("jwt_claims", headers={"authorization": f"Bearer {good}", "x-user": "root"}).json()
    assert got["headers"]["x-user"] == "eve"
    assert recipes.ask("jwt_claims", headers={"authorization": f"Bearer {late}"}).status == 401
    assert recipes.ask("jwt_claims", "/free", {"x-user": "root"}).status == 403


def test_tenant_routing(recipes: Recipes) -> None:
    names = [recipes.ask("tenant_routing", headers={"x-tenant": tenant}).json()["name"] for tenant in ("acme", "corp")]
    assert names == ["other", "service"]
    assert recipes.ask("tenant_routing").status == 404
    for tenant in ("ACME", "acme,corp", "\xff", "a" * 5000):
        assert recipes.ask("tenant_routing", headers={"x-tenant": tenant}).status == 404


def test_canary(recipes: Recipes) -> None:
    first = recipes.ask("canary")
    assert (first.json()["name"], first.headers["set-cookie"].split(";")[0]) == ("other", "canary=yes")
    assert recipes.ask("canary", headers={"cookie": "canary=no"}).json()["name"] == "service"
    marked, known = recipes.ask("canary", "/fresh"), recipes.ask("canary", "/fresh", {"cookie": "canary=yes"})
    assert (marked.headers["cache-control"], known.headers["cache-control"]) == ("private, max-age=60", "max-age=60")
    assert marked.headers["vary"] == known.headers["vary"] == "Cookie"
    assert "set-cookie" not in known.headers
    assert "set-cookie" in recipes.ask("canary", headers={"cookie": "canary=yes; canary=no"}).headers


def test_rewriting(recipes: Recipes) -> None:
    got = recipes.ask("rewriting", "/v1/cups?utm=x&size=2").json()
    assert (got["path"], got["headers"]["x-original-path"]) == ("/cups?size=2", "/v1/cups")
    strange = "a=1&b=%2F&c=+&d&e=%zz&&f=%C3%28"
    assert recipes.ask("rewriting", f"/x%2Fy?{strange}").json()["path"] == f"/x%2Fy?{strange}"
    forged = recipes.ask("rewriting", "/x", {"x-original-path": "/admin"}).json()
    assert "x-original-path" not in forged["headers"]


def test_prefix_hash(recipes: Recipes) -> None:
    replicas = [recipes.service, recipes.other]
    made: Any = load_filter(RECIPES / "prefix_hash.py", "PrefixHash", {"hosts": [upstream.address for upstream in replicas]})
    prefixes = [f"{number:03} long instructions, the same for many questions." for number in range(100)]
    for upstream, name in zip(replicas, ("service", "other"), strict=True):
        prefix = next(text for text in prefixes if made.order(text[:50])[0] == upstream.address)
        bodies = [json.dumps({"prompt": f"{prefix} {question}?"}) for question in ("who", "why", "how", "when")]
        served = {recipes.ask("prefix_hash", headers=POST_JSON, body=body).json()["name"] for body in bodies}
        assert served == {name}
    for body in ("[" * 100_000, '{"messages":[' + "9" * 5000 + "]}", '{"prompt": "\\ud800"}'):
        assert recipes.ask("prefix_hash", headers=POST_JSON, body=body).status == 200


def test_audit_log(recipes: Recipes) -> None:
    path = recipes.folder / "audit.json"
    recipes.ask("audit_log", "/seen", {"x-user": "eve"})
    assert eventually(lambda: "/seen" in path.read_text())
    line = json.loads(path.read_text().splitlines()[0])
    assert (line["path"], line["headers"], line["status"], line["cluster"]) == ("/seen", {"x-user": ["eve"]}, 200, "service")
    assert line["upstream"] == recipes.service.address


def test_the_end(recipes: Recipes) -> None:
    """Nothing went wrong that no test has looked at, and everything ends by itself."""
    recipes.program.send(signal.SIGTERM)
    assert recipes.program.exit_code() == 0
    assert "failed" not in recipes.program.output
    assert "Traceback" not in recipes.program.output
