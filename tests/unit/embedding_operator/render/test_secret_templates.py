"""Templates of values: what they make, what they refuse, and that no value is read as one."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_operator.render import secret_templates
from embedding_operator.render.secret_templates import TemplateError

VALUES = {"user": b"ann", "password": b'p"w\n', "api-key": b"k", "bytes": b"\xff\x00", "empty": b""}
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


def fill(text, values=VALUES):
    return secret_templates.fill(
        secret_templates.read(text), values, budget=secret_templates.Budget()
    )


def refusal(text, values=VALUES):
    with pytest.raises(TemplateError) as refused:
        fill(text, values)
    return refused.value


# As Go's text/template with Sprig's functions makes them.
MADE = {
    "": b"",
    "no action } or }} here": b"no action } or }} here",
    "{{ .user }}": b"ann",
    "{{.user}}": b"ann",
    "a {{- .user -}} b": b"aannb",
    "{{ .user -}}\n\t x": b"annx",
    "{{\n.user\n}}": b"ann",
    "{ {{ .user }} }": b"{ ann }",
    '{{ index . "api-key" }}': b"k",
    '{{ printf "%s:%s" .user .password | b64enc }}': base64.b64encode(b'ann:p"w\n'),
    '{{ .user | printf "%v is 100%%" }}': b"ann is 100%",
    '{{ printf "%s" .bytes }}': b"\xff\x00",
    "{{ .bytes | b64enc }}": b"/wA=",
    "{{ .bytes | b64enc | b64dec }}": b"\xff\x00",
    '{{ "YW\\nI=" | b64dec }}': b"ab",
    "{{ .password | toJson }}": b'"p\\"w\\n"',
    '{{ "<a&b>" | toJson }}': b'"\\u003ca\\u0026b\\u003e"',
    "{{ .password | quote }}": b'"p\\"w\\n"',
    '{{ "\u00e9\u200b" | quote }}': '"é\\u200b"'.encode(),
    "{{ .password | trim }}": b'p"w',
    '{{ .user | replace "n" "m" }}': b"amm",
    '{{ "ab" | replace "" "-" }}': b"-a-b-",
    '{{ trimPrefix "a" .user | trimSuffix "n" }}': b"n",
    '{{ "a b/ü" | urlquery }}': b"a+b%2F%C3%BC",
    "{{ .user | toString }}": b"ann",
    '{{ "}}" }}': b"}}",
    '{{ `a\\n\n"` }}': b'a\\n\n"',
    '{{ "\\"\\\\\\t" }}': b'"\\\t',
    "{{ .empty }}": b"",
}


@pytest.mark.parametrize("text", MADE)
def test_template_makes_what_go_makes(text):
    assert fill(text) == MADE[text]


REFUSED = {
    "{{ .user": "character 9 lacks }}",
    "{{ }}": "empty command",
    "{{ .user | }}": "empty command",
    "{{{ .user }}": "character 3 cannot be read",
    "{{ . }}": "a dot where a value belongs",
    "{{ .a.b }}": "cannot be read",
    "{{ $x := .user }}": "cannot be read",
    "{{/* comment */}}": "cannot be read",
    "{{ if .user }}x{{ end }}": "names if",
    "{{ range . }}": "names range",
    '{{ env "HOME" }}': "names env",
    '{{ getHostByName "a" }}': "names getHostByName",
    "{{ .user | .user }}": "a value where a function belongs",
    "{{ .user .user }}": "a value where a function belongs",
    "{{ b64enc }}": "gives b64enc 0 values",
    "{{ .user | b64enc .user }}": "gives b64enc 2 values",
    "{{ printf .user }}": "without a form",
    '{{ printf "%d" .user }}': "another verb",
    '{{ printf "%s" }}': "gives printf 1 values; it takes 2",
    '{{ index .user "a" }}': "index in another form",
    '{{ "\\x41" }}': "another escape",
    '{{ ("a") }}': "cannot be read",
    '{{ "a".user }}': "cannot be read",
    "{{ 1 }}": "cannot be read",
}


@pytest.mark.parametrize("text", REFUSED)
def test_other_template_is_refused_with_place(text):
    with pytest.raises(TemplateError, match="character") as refused:
        secret_templates.read(text)
    assert REFUSED[text] in str(refused.value)


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(TemplateError, match="is not Unicode"):
        secret_templates.read("\ud800")


def test_missing_key_is_named():
    assert refusal("{{ .user }}{{ .nope }}").missing == "nope"


@pytest.mark.parametrize("function", ["toJson", "quote", "trim"])
def test_function_of_text_refuses_bytes(function):
    assert str(refusal(f"{{{{ .bytes | {function} }}}}")).startswith(f"{function} takes text")


def test_value_that_is_no_base64_is_refused_without_it():
    assert str(refusal("{{ .user | b64dec }}")) == "b64dec takes base64, and the value is none"


LARGE = {"a": b"x" * secret_templates.RESULT_BYTES, "blank": b" " * secret_templates.RESULT_BYTES}
TOO_LARGE = {
    '{{ .a | replace "x" "xx" }}': "replace makes more",
    '{{ .a | replace "" "x" }}': "replace makes more",
    "{{ .a | b64enc }}": "b64enc makes more",
    "{{ .a }}{{ .a }}": "makes more",
    "{{ .blank | trim }}" * 9: "the templates of a Secret take more",
}


@pytest.mark.parametrize("text", TOO_LARGE)
def test_result_and_work_are_bounded(text):
    assert TOO_LARGE[text] in str(refusal(text, LARGE))


@given(st.dictionaries(NAMES, st.binary(max_size=40), min_size=1, max_size=4))
def test_value_is_never_read_as_template(values):
    """Values of braces and fields stand in the result as they are."""
    hostile = {name: b"{{ ." + name.encode() + b" }}" + it for name, it in values.items()}
    text = "|".join(f"{{{{ .{name} }}}}" for name in hostile)
    assert fill(text, hostile) == b"|".join(hostile.values())


@given(st.text(max_size=60), st.binary(max_size=20))
def test_any_text_is_filled_or_refused_without_value(text, value):
    secret = b"s3cr3t-" + value.hex().encode()
    told = ""
    try:
        fill(text, {"a": secret})
    except TemplateError as error:
        told = str(error)
    assert secret.decode() not in told


@given(
    st.text(alphabet='{}.|"`\\ -absq%printfndex', max_size=40),
    st.sampled_from(["", "{{ .a ", "{{ .a | "]),
)
def test_text_near_grammar_is_read_or_refused(text, begin):
    try:
        read = secret_templates.read(begin + text)
    except TemplateError:
        return
    budget = secret_templates.Budget()
    try:
        secret_templates.fill(read, {"a": b"x"}, budget=budget)
    except TemplateError:
        return


OPERANDS = st.sampled_from([".a", ".b", '""', '"x"', '"%s"'])


@given(
    st.sampled_from([it for it in secret_templates.FUNCTIONS if it != "index"]),
    st.lists(OPERANDS, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from("ab"), st.binary(max_size=9) | st.just(b""), min_size=2),
)
def test_function_of_any_bytes_is_carried_out_or_refused(function, operands, values):
    text = f"{{{{ {function} {' '.join(operands)} }}}}"
    try:
        assert isinstance(fill(text, values), bytes)
    except TemplateError as error:
        assert str(error).startswith((function, "the action"))  # noqa: PT017 - either is right


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_json_of_text_is_read_back(value):
    assert json.loads(fill("{{ .v | toJson }}", {"v": value.encode()})) == value


@given(st.binary(max_size=40))
def test_base64_is_read_back(value):
    assert fill("{{ .v | b64enc | b64dec }}", {"v": value}) == value


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{"), max_size=40))
def test_text_without_action_stays(text):
    assert fill(text) == text.encode()
