"""The grammar of .env files: literal values, and no guess."""

import io
import subprocess

import dotenv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedding_operator.migration import env_files
from embedding_operator.migration.refusal import Refused


def read(text: str | bytes) -> dict[str, str]:
    raw = text.encode() if isinstance(text, str) else text
    return env_files.parse(raw, place="file")


VALUES = {
    "plain": ("A=b", "b"),
    "blanks around it are not part of it": ("A \t=  b c \t", "b c"),
    "equal signs are": ("A=b=c==", "b=c=="),
    "a comment after a blank is not": ("A=b # c", "b"),
    "a # in a word is": ("A=b#c", "b#c"),
    "nothing is interpolated": ("A=$B${C}`d`$(e)", "$B${C}`d`$(e)"),
    "nor in double quotes": ('A="$B${C}$(e)"', "$B${C}$(e)"),
    "backslashes stay": (r"A=C:\new\table", r"C:\new\table"),
    "quotes inside stay": ("""A=it's "so\"""", """it's "so\""""),
    "export": ("export A=b", "b"),
    "indented": ("   export \t A=b", "b"),
    "single quotes take everything": (r"""A=' \n"$B #c\' """, r""" \n"$B #c\ """.rstrip(" ")),
    "a comment after quotes": ("A='b' # c", "b"),
    "no blank before it": ("A='b'# c", "b"),
    "double quotes have five escapes": (r'A="\n\r\t\"\\"', '\n\r\t"\\'),
    "and no other": (r'A="\a\b\x41\u0041\'"', r"\a\b\x41\u0041\'"),
    "an escaped backslash escapes nothing": (r'A="\\n"', r"\n"),
    "lines in single quotes": ("A='b\nc\n'", "b\nc\n"),
    "lines in double quotes": ('A="b\nc"', "b\nc"),
    "CRLF ends lines": ("A=b\r\n", "b"),
    "CRLF in quotes is LF": ("A='b\r\nc'\r\n", "b\nc"),
    "CR can be written": (r'A="b\rc"', "b\rc"),
    "a byte order mark is none of it": ("\ufeffA=b", "b"),
    "empty": ("A=", ""),
    "empty in quotes": ("A=''", ""),
    "other alphabets": ("A=käse 日本 🙂", "käse 日本 🙂"),
    "a blank of another alphabet stays": ("A=b\u00a0", "b\u00a0"),
    "a line break of another alphabet stays": ("A=b\u2028c\x0bd\x85e", "b\u2028c\x0bd\x85e"),
}


@pytest.mark.parametrize("case", VALUES)
def test_value_is_read_by_grammar(case):
    text, value = VALUES[case]
    assert read(text) == {"A": value}
    assert read(f"{text}\nB=2\n") == {"A": value, "B": "2"}


def test_comments_and_blank_lines_say_nothing():
    assert read("\n# A=1\n  \t# B=2\n\n \nC=3\n#") == {"C": "3"}


def test_empty_file_holds_nothing():
    assert read("") == {}


def test_order_is_files():
    assert list(read("B=1\nA=2\n_c.d-e=3")) == ["B", "A", "_c.d-e"]


REFUSED: dict[str, tuple[str | bytes, int]] = {
    "no equal sign": ("A=1\nSECRET", 2),
    "export alone": ("export SECRET", 1),
    "a colon": ("A: SECRET", 1),
    "a name that begins with a digit": ("1A=SECRET", 1),
    "a name with a blank": ("A B=SECRET", 1),
    "a name of another alphabet": ("Ä=SECRET", 1),
    "a name in quotes": ("'A'=SECRET", 1),
    "no name": ("=SECRET", 1),
    "a quote that is not closed": ("B=1\nA='SECRET\n\n", 2),
    "a double quote that is not closed": ('A="SECRET\\"\n', 1),
    "text after the quote": ("A='SE'CRET", 1),
    "a name twice": ("A='\n\n'\nA=SECRET", 4),
    "a name twice with one value": ("A=SECRET\nA=SECRET", 2),
    "a value that begins with #": ("A=#SECRET", 1),
    "also after a blank": ("A= #SECRET", 1),
    "a value that begins with a backtick": ("A=`SECRET`", 1),
    "an escaped dollar": ('A="SE\\$CRET"', 1),
    "an escaped line break": ('A="SE\\\nCRET"', 1),
    "a carriage return alone": ("A=1\nB=SE\rCRET", 2),
    "a NUL": ("A=SE\0CRET", 1),
    "Latin-1": ("A=1\nB=SECRET\xe4".encode("latin-1"), 2),
    "UTF-16": ("A=SECRET".encode("utf-16"), 1),
}


@pytest.mark.parametrize("case", REFUSED)
def test_ambiguous_line_is_refused_by_number_and_not_quoted(case):
    text, line = REFUSED[case]
    with pytest.raises(Refused) as refused:
        read(text)
    assert str(refused.value).startswith(f"file, line {line}: ")
    assert "CRET" not in f"{refused.value!r} {refused.value.__cause__}"


def written(value: str) -> str:
    """A value as a careful person writes it."""
    if "'" not in value and "\r" not in value:
        return f"'{value}'"
    for character, escape in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\r", r"\r")):
        value = value.replace(character, escape)
    return f'"{value}"'


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]*", fullmatch=True)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.dictionaries(NAMES, ANY), st.sampled_from(["\n", "\n\n", " # comment\n"]))
def test_env_file_is_read_as_written(values, between):
    text = between.join(f"{name}={written(value)}" for name, value in values.items())
    assert read(text) == values


@given(st.binary() | st.text(alphabet="A=b'\"\\\n\r \t#$`export").map(str.encode))
def test_any_bytes_are_values_or_refusal(raw):
    try:
        values = read(raw)
    except Refused:
        return
    assert all(isinstance(value, str) for value in values.values())


@settings(max_examples=300)
@given(st.dictionaries(NAMES, st.text(alphabet="ab=$#{}'\"\\ \n", max_size=12), max_size=3))
def test_python_dotenv_reads_what_was_written_in_same_way(values):
    text = "".join(f"{name}={written(value)}\n" for name, value in values.items())
    # In single quotes it takes \' and \\ for escapes, which shells do not.
    if "\\" not in "".join(value for value in values.values() if "'" not in value):
        assert dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False) == read(text)


@settings(max_examples=20, deadline=None)
@given(st.text(alphabet='ab=$#{}`()"\\ \n\t', max_size=30))
def test_shell_reads_single_quotes_in_same_way(value):
    text = f"export A='{value}'\n"
    shell = subprocess.run(
        ["/bin/sh", "-c", f'{text}printf %s "$A"'], capture_output=True, text=True, check=True
    )
    assert read(text) == {"A": shell.stdout}
