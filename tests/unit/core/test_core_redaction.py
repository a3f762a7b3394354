"""What is a secret, by names and by values; and what is not."""

import base64
import json
import time
from typing import Any

import pytest

from pymosn.core.redaction import KnownSecrets, redacted, redacted_text
from pymosn.core.secrets import REDACTED, is_credential, names_secret

X = REDACTED


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PASSWORD", "client_secret", "apiKey", "APIKey", "APIKeys", "hmac_key", "hmacKey", "signing-key"),
        *("private.key", "privatekey", "access_token", "authToken", "dbpassword", "MYSQL_PWD", "secretAccessKey", "tokens"),
        *("credentials", "tokenValue", "password1", "oauth2Token", "token.github", "passWord", "basic_auth", "aws.secret"),
        *("Proxy-Authorization", "X-Api-Key", "x-rapidapi-key", "ocp-apim-subscription-key", "webhook_secret", "creds"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("tokenCalculateStrategy", "keyFormat", "token_bucket", "key", "public_key", "publicKey", "request_headers"),
        *("tokenEndpoint", "token_ttl", "password_file", "secret_name", "authorization_url", "tokens_per_fill", "max_keys"),
        *("limit_key_type", "hash_key", "keepalive", "author", "secretary", "compass", "bypass", "x-user", "tokenizer"),
        *("credential_policy", "jwt_authn", "ext_authz", "monkey", "passthrough", "private", "cookie", "cookie_name"),
        *("api_key_header", "x-auth-request-user", "token_header", "secretRef", "on_error", "path"),
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert not names_secret(name)


def test_flags_empty_values_and_numbers_of_tokens_are_shown() -> None:
    assert redacted({"max_tokens": 5, "password": "", "token": None, "secret": True, "tokens": 7}) == {
        "max_tokens": 5,
        "password": "",
        "token": None,
        "secret": True,
        "tokens": 7,
    }
    assert redacted({"pass": 3, "auth": {"type": "none"}}) == {"pass": 3, "auth": {"type": "none"}}
    assert redacted({"password": 5, "passwords": ["a"]}) == {"password": X, "passwords": X}


@pytest.mark.parametrize(
    "name", ["Authorization", "cookie", "Set-Cookie", "x-api-key", "http_header_authorization", "http_cookie_sid"]
)
def test_credential_headers(name: str) -> None:
    assert is_credential(name)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"key": "Authorization", "value": "a"}, {"key": "Authorization", "value": X}),
        ({"name": "cookie", "value": "a", "regex": True}, {"name": "cookie", "value": X, "regex": True}),
        ({"header": {"key": "set-cookie", "value": "a"}}, {"header": {"key": "set-cookie", "value": X}}),
        (
            {"name": "authorization", "stringMatch": {"exact": "a", "ignoreCase": True}},
            {"name": "authorization", "stringMatch": {"exact": X, "ignoreCase": True}},
        ),
        ({"name": "http_header_x-api-key", "value": "a"}, {"name": "http_header_x-api-key", "value": X}),
        ({"Cookie": "a=b"}, {"Cookie": X}),
        ([["authorization", "a"], ["x-user", "a"]], [["authorization", X], ["x-user", "a"]]),
        ({"header_name": "x-api-key", "header_value": "a"}, {"header_name": "x-api-key", "header_value": X}),
        ({"k": "authorization", "v": "a"}, {"k": "authorization", "v": X}),
        ({"param": "api_key", "equals": "a"}, {"param": "api_key", "equals": X}),
        ({"https://u:pw@h/p": {"weight": 1}}, {f"https://{X}@h/p": {"weight": 1}}),
        ({"x://a@h": 1, "x://b@h": 2}, {f"x://{X}@h": 1, f"x://{X}@h (2)": 2}),
        (["--password", "a", "--verbose", "b"], ["--password", X, "--verbose", "b"]),
        ({"a": base64.b64encode(b'{"password": "a"}').decode()}, {"a": X}),
        ({"a": base64.b64encode(b"a text without any secret").decode()}, {"a": "YSB0ZXh0IHdpdGhvdXQgYW55IHNlY3JldA=="}),
        ({"name": "token-service", "hosts": [{"address": "a"}]}, {"name": "token-service", "hosts": [{"address": "a"}]}),
        # Names without values.
        (["authorization", "cookie"], ["authorization", "cookie"]),
        ({"name": "Authorization", "valuePrefix": "Bearer "}, {"name": "Authorization", "valuePrefix": "Bearer "}),
        ({"header": {"key": "cookie"}}, {"header": {"key": "cookie"}}),
        ({"cookie": {"name": "sid"}}, {"cookie": {"name": "sid"}}),
        ({"key": "x-user", "value": "a"}, {"key": "x-user", "value": "a"}),
        ({"key": "header", "header": "x-api-key", "body": "b"}, {"key": "header", "header": "x-api-key", "body": "b"}),
    ],
)
def test_pairs_of_name_and_value(value: Any, shown: Any) -> None:
    assert redacted(value) == shown


def test_json_web_keys() -> None:
    rsa = {"kty": "RSA", "n": "n", "e": "AQAB", **dict.fromkeys(("d", "p", "q", "dp", "dq", "qi", "oth"), "private")}
    keys = {"keys": [rsa, {"kty": "oct", "k": "private", "kid": "1"}]}
    shown = redacted(keys)
    assert shown["keys"][1] == {"kty": "oct", "k": X, "kid": "1"}
    assert {name: shown["keys"][0][name] for name in ("n", "e", "d", "oth")} == {"n": "n", "e": "AQAB", "d": X, "oth": X}
    as_text = json.dumps(keys)
    for text in (as_text, json.dumps({"inlineString": as_text}), f"bad: {as_text}", as_text[:-2], repr({"a": as_text})):
        assert "private" not in redacted_text(text)
        assert "AQAB" in redacted_text(text)
    public = json.dumps({"keys": [{"kty": "RSA", "n": "n", "e": "AQAB"}]})
    assert redacted_text(public) == public


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pw@host:6379/0", f"redis://{X}@host:6379/0"),
        ("redis://u:p/w@host/1", f"redis://{X}@host/1"),
        ("https://token@host/", f"https://{X}@host/"),
        ("zookeeper://a:b@h:1?backup=h2:1&password=c", f"zookeeper://{X}@h:1?backup=h2:1&password={X}"),
        ("user:pw@tcp(db:3306)/x", f"{X}@tcp(db:3306)/x"),
        ("https://h/x?X-Amz-Signature=a&X-Amz-Date=1", f"https://h/x?X-Amz-Signature={X}&X-Amz-Date=1"),
        ("/blob?sv=1&sig=a%3D", f"/blob?sv=1&sig={X}"),
        ("password=pw dbname=x", f"password={X} dbname=x"),
        ("Server=x;Password=p w;User=q", f"Server=x;Password={X};User=q"),
        ("Bearer abcDEF1234", f"Bearer {X}"),
        ("Set-Cookie: sid=a; Path=/", f"Set-Cookie: {X}"),
        ("Config(hmac_key='a\\'b', n=1)", f"Config(hmac_key='{X}', n=1)"),
        ("[('authorization', 'a'), ('x-user', 'b')]", f"[('authorization', '{X}'), ('x-user', 'b')]"),
        ("HeaderPair(key='Cookie', value='a')", f"HeaderPair(key='Cookie', value='{X}')"),
        ('{\\"password\\": \\"a b\\"}', f'{{\\"password\\": \\"{X}\\"}}'),
        ("-----BEGIN EC PRIVATE KEY-----\nMII\n-----END EC PRIVATE KEY-----", X),
        ("-----BEGIN PRIVATE KEY-----\\nMII", X),
        ("a eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc b", f"a {X} b"),
        ("a:\n  password: pw\n  user: x", f"a:\n  password: {X}\n  user: x"),
        ("password: |\n  one\n  two\nuser: x", f"password: |\n  {X}\nuser: x"),
        ("{password: pw, user: x}", f"{{password: {X}, user: x}}"),
        ("<db><password>p w</password><user>x</user></db>", f"<db><password>{X}</password><user>x</user></db>"),
        ("run --token=a1 --level=b", f"run --token={X} --level=b"),
        ("run --token a1 --level b", f"run --token {X} --level b"),
        ("/p?next=%2Fx%3Ftoken%3Da1%26y%3D2", f"/p?next=%2Fx%3Ftoken%3D{X}%26y%3D2"),
        ('headers["x-api-key"] == "a" && path == "b"', f'headers["x-api-key"] == "{X}" && path == "b"'),
        ("'a' != request.headers['authorization']", f"'{X}' != request.headers['authorization']"),
        ("headers['x-api-key'] in ['a', 'b']", f"headers['x-api-key'] in [{X}]"),
        ("headers['x-api-key'].startsWith('a')", f"headers['x-api-key'].startsWith('{X}')"),
        ("request.headers.authorization == 'a'", f"request.headers.authorization == '{X}'"),
        ("use ghp_0123456789abcdefghij0123456789abcdef", f"use {X}"),
        ("https://hooks.slack.com/services/T0/B0/a1", f"https://hooks.slack.com/services/{X}"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert redacted_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("https://host:8080/@user", "https://medium.com/@user", "unix:/run/x.sock", "[::1]:80", "Bearer token is missing"),
        *("-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----", "log token=%token% x", "expected key=header"),
        *(
            "servers[0].config.token: expected a string",
            "not a header name: 'x y'",
            "--token is required",
            "headers['x-user'] == 'a'",
            '{"max_tokens": 5}',
            "/a?page=2&x=1",
        ),
    ],
)
def test_texts_without_secrets(text: str) -> None:
    assert redacted_text(text) == text


def test_known_secrets_are_found_in_any_text() -> None:
    known = KnownSecrets()
    header = {"key": "cookie", "value": 'it\'s "so"\u00e9'}
    known.read({"password": "swordfish", "header": header, "url": "redis://:horse1@h", "token": 12})
    assert known.hide("no swordfish, horse1; swordfishes") == f"no {X}, {X}; swordfishes"
    for text in (header["value"], repr(header["value"]), json.dumps(header["value"]), ascii(header)):
        assert "so" not in known.hide(f"found {text}")
    assert known.has(12)
    assert known.hide("12 times") == "12 times"  # too short to be searched for


@pytest.mark.parametrize(
    "part",
    [
        '"a": "\\',
        "'",
        "a=",
        "a:",
        "&a",
        '"oth":[',
        "eyJaaaaaa.",
        "-----BEGIN PRIVATE KEY-----",
        "name='",
        "<a>",
        "<a",
        "--a ",
        "-",
        "{a: ",
        "['a']",
        "['a'] in [",
        ".a",
        "'a' == ",
        "'a' == a.",
        "a: |\n  ",
        "a: |\n\n",
        " \n",
        "%3Fa",
        "%3Fa%3D",
        "gh",
        "ab",
        "xoxb-",
        "a b c: ",
    ],
)
def test_long_texts_take_no_long_time(part: str) -> None:
    started = time.process_time()
    redacted_text("kty" + part * (20_000 // len(part)))
    assert time.process_time() - started < 5.0


def test_a_key_of_very_many_words_takes_no_long_time() -> None:
    started = time.process_time()
    assert not names_secret("a:" * (1 << 18))
    assert names_secret("a:" * (1 << 18) + "password")
    assert not names_secret("password:" + "a:" * (1 << 18) + "file")
    assert time.process_time() - started < 10.0
