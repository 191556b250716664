"""Templates of paths and parameters, and the calls that are made of them."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.connectors.call import Call
from fairlead.connectors.template import Template, TemplateError
from fairlead.transport.answer import About
from fairlead.transport.failure import Invalid, Misconfigured
from support.rest import http_to

# Examples of RFC 6570 section 1.2 (level 1) and 3.2.2, with its values.
LEVEL_1 = [
    ("{var}", "value"),
    ("{hello}", "Hello%20World%21"),
    ("{half}", "50%25"),
    ("O{var}X", "OvalueX"),
    ("{base}index", "http%3A%2F%2Fexample.com%2Fhome%2Findex"),
    ("/{path}/x", "/%2Ffoo%2Fbar/x"),
    ("{var}{hello}", "valueHello%20World%21"),
    ("/a b/é%20", "/a%20b/%C3%A9%20"),
]
VALUES = {
    "var": "value",
    "hello": "Hello World!",
    "half": "50%",
    "base": "http://example.com/home/",
    "path": "/foo/bar",
}


@pytest.mark.parametrize(("text", "whole"), LEVEL_1)
def test_expansion_is_that_of_rfc_6570(text: str, whole: str) -> None:
    assert Template(text, VALUES.keys()).path(VALUES) == whole


@pytest.mark.parametrize("text", ["/{var", "/var}", "/{var}}", "/{{var}}"])
def test_a_brace_without_its_partner_is_told(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text, {"var"})
    assert str(caught.value) == f"{text!r} has a brace without its partner"


@pytest.mark.parametrize("name", ["other", "", "var ", "+var", "var*", "var:3", "var,var"])
def test_only_known_names_and_nothing_beyond_level_1_may_be_used(name: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(f"/x/{{{name}}}", {"var", "key"})
    assert str(caught.value) == f"'/x/{{{name}}}' uses {{{name}}}; it may use {{key}}, {{var}}"


@pytest.mark.parametrize("value", ["", ".", "..", "../x", "x/..", "x/./y", "..\\x", "x\\.."])
def test_a_value_that_would_lead_elsewhere_is_refused_without_quoting_it(value: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template("/things/{key}", {"key"}).path({"key": value})
    assert str(caught.value) == "'/things/{key}' has an empty value, or one that leads elsewhere (. or ..)"


@pytest.mark.parametrize("value", ["...", "a..b", "..a", "%2e%2e", "a/b", "/", "?x=1", "#x", ";v=1", "ä"])
def test_other_odd_values_are_encoded(value: str) -> None:
    assert unquote(Template("/things/{key}", {"key"}).path({"key": value})) == f"/things/{value}"


@given(
    st.lists(st.sampled_from(["/a", "/", ".", "{x}", "{y}", "-"]), min_size=1, max_size=6),
    st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("./\\%?#&;:@ "), max_size=8),
    st.text(st.sampled_from("./\\%2eE?#"), max_size=5),
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_no_value_leaves_its_part_of_the_path(parts: list[str], x: str, y: str) -> None:
    text = "/" + "".join(parts)
    try:
        path = Template(text, {"x", "y"}).path({"x": x, "y": y})
    except TemplateError:
        return
    split = urlsplit("http://host" + path)
    assert (split.netloc, split.query, split.fragment) == ("host", "", "")
    assert split.path.count("/") == text.count("/")
    assert not {".", ".."} & set(unquote(path).replace("\\", "/").split("/"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
@settings(deadline=None)
def test_a_value_in_a_parameter_is_left_to_the_encoding_of_the_whole(value: str) -> None:
    assert Template("a={x}", {"x"}).plain({"x": value}) == f"a={value}"


def test_a_template_tells_what_it_uses() -> None:
    assert Template("/{object}/{key}", {"object", "key", "since"}).names == {"object", "key"}


# --- calls ---


async def test_a_call_fills_path_and_parameters_and_encodes_them() -> None:
    async with http_to("https://api.example.com/v2") as http:
        call = Call(
            http, "GET", "/{object}/{key}", {"{field}": "eq:{value}", "x": "1"}, "things", ("key", "field", "value")
        )
        request = call.request({"key": "a/b", "field": "e mail", "value": "ä&b=c"}, extra={"limit": "10", "x": "2"})
    assert request.url == "https://api.example.com/v2/things/a%2Fb?e%20mail=eq%3A%C3%A4%26b%3Dc&x=2&limit=10"


async def test_messages_call_it_by_its_object_and_without_values() -> None:
    async with http_to("https://api.example.com") as http:
        call = Call(http, "PATCH", "/{object}/{key}", {}, "things", ("key",))
        request = call.request({"key": "canary"}, about=About.RECORD, hidden=["value"])
    assert (call.label, request.label, request.hidden) == (
        "PATCH /things/{key}",
        "PATCH /things/{key}",
        ["canary", "value"],
    )


async def test_a_value_that_cannot_stand_in_the_path_is_a_matter_of_that_record() -> None:
    async with http_to("https://api.example.com") as http:
        call = Call(http, "GET", "/{object}/{key}", {}, "things", ("key",))
        with pytest.raises(Invalid):
            call.request({"key": ".."})
    assert [call.takes({"key": key}) for key in ("a", "..", "")] == [True, False, False]


@pytest.mark.parametrize(
    ("path", "query"), [("/{object}/{nope}", {}), ("/{object}", {"a": "{nope}"}), ("/{object}", {"{nope}": "a"})]
)
async def test_a_call_that_uses_what_it_may_not_is_misconfigured(path: str, query: dict[str, str]) -> None:
    async with http_to("https://api.example.com") as http:
        with pytest.raises(Misconfigured) as caught:
            Call(http, "GET", path, query, "things", ("key",))
    assert (caught.value.reason, caught.value.message.endswith("uses {nope}; it may use {key}, {object}")) == (
        "InvalidSpec",
        True,
    )


async def test_an_objects_name_cannot_lead_elsewhere_either() -> None:
    async with http_to("https://api.example.com") as http:
        call = Call(http, "GET", "/v1/{object}", {}, "../admin")
        with pytest.raises(Invalid):
            call.request()
