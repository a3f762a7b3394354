"""Path templates of `google.api.http`: which paths they match, what their variables are, which of several is taken."""

from __future__ import annotations

import pytest

from pymosn.filters.stream.http_rules import HttpRules, Template, decoded


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/v1/shelves", "/v1/shelves", []),
        ("/v1/shelves", "/v1/shelves/", None),
        ("/v1/shelves", "/v1/shelve", None),
        ("/v1.2/a", "/v1x2/a", None),
        ("/v1/{id}", "/v1/7", ["7"]),
        ("/v1/{id}", "/v1/", None),
        ("/v1/{id}", "/v1/a/b", None),
        ("/v1/{a.b.c}/x", "/v1/7/x", ["7"]),
        ("/v1/*/x/{id=*}", "/v1/q/x/7", ["7"]),
        ("/v1/{name=shelves/*}", "/v1/shelves/3", ["shelves/3"]),
        ("/v1/{name=shelves/*}/books/{id}", "/v1/shelves/3/books/9", ["shelves/3", "9"]),
        ("/v1/{name=shelves/*/books/*}:move", "/v1/shelves/3/books/9:move", ["shelves/3/books/9"]),
        ("/v1/{name=shelves/*/books/*}:move", "/v1/shelves/3/books/9", None),
        ("/v1/{name=shelves/*/books/*}", "/v1/shelves/3/books/9:move", ["shelves/3/books/9:move"]),
        ("/v1/{name=**}", "/v1/a/b/c", ["a/b/c"]),
        ("/v1/{name=**}", "/v1", [""]),
        ("/v1/{name=**}", "/v1/", [""]),
        ("/v1/{name=**}", "/v1x", None),
        ("/v1/{name=files/**}", "/v1/files", ["files"]),
        ("/v1/{name=files/**}:get", "/v1/files/a/b:get", ["files/a/b"]),
        ("/v1/**", "/v1/a/b", []),
        ("/**", "/a/b", []),
        ("/pkg.Service/Method", "/pkg.Service/Method", []),
    ],
)
def test_templates(template: str, path: str, values: list[str] | None) -> None:
    found = Template(template).match(path.encode())
    assert (None if found is None else [value.decode() for value in found]) == values


@pytest.mark.parametrize(
    "template",
    [
        *("", "/", "v1", "/v1/", "//", "/v1//x", "/{}", "/{a", "/a}", "/{a=}", "/{a=b/{c}}", "/{1a}", "/{a.}", "/{a..b}"),
        *("/**/a", "/{a=**}/b", "/{a}/{a}", "/a b", "/a:", "/a?b", "/***", "/*a", "/{a=*}x", "/a:b:c/d"),
    ],
)
def test_invalid_templates(template: str) -> None:
    with pytest.raises(ValueError, match=r"template|segment|twice"):
        Template(template)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v1/a", "literal"),
        ("/v1/b", "one"),
        ("/v1/b/c", "many"),
        ("/v1/b:move", "verb"),
        ("/v1/a:move", "verb"),
        ("/v1/b:other", "one"),
        ("/v2/b", "any"),
        ("/v1:reset", "reset"),
        ("/x", None),
    ],
)
def test_the_most_specific_template_is_taken(path: str, target: str | None) -> None:
    rules: HttpRules[str] = HttpRules()
    for template, name in (
        ("/v1/{name=**}", "many"),
        ("/v1/{id}", "one"),
        ("/v1/a", "literal"),
        ("/v1/{id}:move", "verb"),
        ("/{version}/b", "any"),
        ("/v1:reset", "reset"),
    ):
        rules.add("GET", Template(template), name)
    rules.prepare()
    found = rules.find("GET", path.encode())
    assert (None if found is None else found.target) == target
    assert rules.find("POST", path.encode()) is None


def test_a_rule_for_any_method_comes_after_the_others() -> None:
    rules: HttpRules[str] = HttpRules()
    rules.add("*", Template("/a"), "any")
    rules.add("GET", Template("/{id}"), "get")
    rules.prepare()
    assert [found.target for method in ("GET", "PURGE") if (found := rules.find(method, b"/a"))] == ["get", "any"]
    assert rules.methods_of(b"/a") == ["*", "GET"]
    assert rules.methods_of(b"/a/b") == []


@pytest.mark.parametrize(
    ("value", "has_many", "text"),
    [
        (b"a%20b%2Fc", False, "a b/c"),
        (b"a%20b%2Fc/%2f", True, "a b%2Fc/%2f"),
        (b"%C3%A9", False, "é"),
        (b"%", False, "%"),
        (b"a+b", False, "a+b"),
    ],
)
def test_variables_are_decoded(value: bytes, has_many: bool, text: str) -> None:
    assert decoded(value, has_many) == text


def test_a_variable_that_is_not_utf8() -> None:
    with pytest.raises(ValueError, match="utf-8"):
        decoded(b"%ff", False)
