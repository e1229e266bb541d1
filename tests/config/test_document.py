"""YAML files as mappings, lists and texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pico_twisted.config.document import Document, parse_document


def read(text: str | bytes, environ: dict[str, str] | None = None) -> Document:
    return parse_document(text, file_name="pico.yaml", environ=environ)


def only_fault(text: str | bytes, environ: dict[str, str] | None = None) -> str:
    faults = read(text, environ).faults
    assert len(faults) == 1, faults
    return str(faults[0])


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n", "---\n", "null\n"])
def test_an_empty_file_says_nothing(text: str) -> None:
    """It is as good as no file."""
    assert read(text) == Document(data={}, lines=read(text).lines, faults=())


def test_every_scalar_is_its_text() -> None:
    """YAML's own booleans, numbers and dates do not get in the way of names that look like them."""
    text = "a: no\nb: 007\nc: 1:30\nd: 2020-01-01\ne: 0x1F\nf: '5'\ng: null\nh: ~\ni:\nj: ''\nk: <<\n"
    assert read(text).data == {
        "a": "no",
        "b": "007",
        "c": "1:30",
        "d": "2020-01-01",
        "e": "0x1F",
        "f": "5",
        "g": None,
        "h": None,
        "i": None,
        "j": "",
        "k": "<<",
    }


def test_the_line_of_every_value_is_known() -> None:
    """Messages name the line."""
    document = read("a:\n  b: 1\n  c:\n  - x\n  - d: y\n")
    assert document.data == {"a": {"b": "1", "c": ["x", {"d": "y"}]}}
    assert document.lines["a.b"] == 2
    assert document.lines["a.c[1].d"] == 5


def test_anchors_and_merges_work() -> None:
    """Operators share sections between ports with them; own keys beat merged ones."""
    text = "a: &tls {cert: c, key: k}\nb: *tls\nc:\n  <<: *tls\n  key: other\n"
    shared = {"cert": "c", "key": "k"}
    assert read(text).data == {"a": shared, "b": shared, "c": {"cert": "c", "key": "other"}}
    assert read(text).faults == ()


def test_a_repeated_key_is_a_fault() -> None:
    """One of the two would be lost in silence."""
    fault = only_fault("proxy:\n  timeout: 1s\n  other: x\n  timeout: 2s\n")
    assert fault.startswith("proxy.timeout (pico.yaml:4): found the key a second time (first in line 2)")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 'x", "pico.yaml:1:6"),
        ("a: 1\n\tb: 2\n", "pico.yaml:2:1"),
        ("a: [1, 2\nb: 3\n", "pico.yaml:2:2"),
        ("a: *nothing\n", "pico.yaml:1:4"),
        ("a: 1\n---\nb: 2\n", "pico.yaml:2:1"),
        ("<<: 5\n", "pico.yaml:1:5"),
        ("a: \x00", "pico.yaml"),
        (b"a: \xff\xff", "pico.yaml"),
        ("[" * 5000, "pico.yaml"),
        ("a: &a [*a]\n", "pico.yaml"),
        ("a: &a {b: *a}\n", "pico.yaml"),
    ],
)
def test_what_is_not_yaml_is_one_fault_with_its_place(text: str | bytes, place: str) -> None:
    """The file cannot be used at all: one message, with line and column where there are any."""
    document = read(text)
    assert not document.readable
    assert document.data == {}
    assert only_fault(text).startswith(f"file ({place}): found what is not YAML: ")


def test_aliases_that_multiply_end_soon() -> None:
    """A few lines can stand for billions of values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "nested without end" in only_fault("\n".join(lines))


@pytest.mark.parametrize("text", ["- a\n- b\n", "only text\n"])
def test_a_file_that_is_no_mapping_is_a_fault(text: str) -> None:
    """There are no keys to look at."""
    assert only_fault(text).endswith("expected a mapping of keys at the top")


def test_tags_and_odd_keys_are_faults() -> None:
    """A YAML tag could ask for any object of Python; here it is only refused."""
    assert only_fault("a: !!python/object/apply:os.system [x]\n").startswith("a (pico.yaml:1): found a YAML tag")
    assert "a key that is no text" in only_fault("? [a, b]\n: c\n")


@pytest.mark.parametrize(
    "secret", ["*hunter2secret", "!hunter2secret x", "'hunter2secret", "[hunter2secret", "&hunter2secret"]
)
def test_a_syntax_error_does_not_show_what_stands_there(secret: str) -> None:
    """The mistake may be in the line of a secret."""
    faults = read(f"token: {secret}\nb: {{\n").faults
    assert faults
    assert "hunter2" not in str(faults)


def test_variables_are_expanded_in_values() -> None:
    """`${VAR}` and its default, anywhere in a value; a set variable may be empty."""
    environ = {"HOST": "example.com", "EMPTY": ""}
    text = (
        "a: ${HOST}:8000\nb: ${PORT:80}/${HOST}\nc: ${URL:http://localhost:8002}\nd: x${EMPTY:y}\ne: $${HOST} $HOST\n"
    )
    assert read(text, environ).data == {
        "a": "example.com:8000",
        "b": "80/example.com",
        "c": "http://localhost:8002",
        "d": "x",
        "e": "${HOST} $HOST",
    }


def test_variables_stay_as_they_are_unless_asked_for() -> None:
    """Expansion is the operator's choice."""
    assert read("a: ${HOST}\n").data == {"a": "${HOST}"}


@given(st.text(st.characters(codec="utf-8")))
def test_a_variable_changes_its_own_value_only(secret: str) -> None:
    """Whatever characters it holds, it is not read as YAML."""
    document = read("a: ${SECRET}\nb: 1 # ${SECRET}\n", {"SECRET": secret})
    assert document.data == {"a": secret, "b": "1"}
    assert document.faults == ()


def test_unset_and_malformed_variables_are_faults() -> None:
    """Each is told with its place, and the rest of the file is read on."""
    document = read("a: ${NOT_SET}\nb: ${1x}\nc: ${\nd: fine\n", {})
    assert document.data == {"d": "fine"}
    assert [str(fault).partition(", expected")[0] for fault in document.faults] == [
        "a (pico.yaml:1): found ${NOT_SET}, which is not set",
        "b (pico.yaml:2): found a malformed ${...}",
        "c (pico.yaml:3): found a malformed ${...}",
    ]


@given(st.text(max_size=200))
def test_no_text_escapes_as_an_exception(text: str) -> None:
    """Whatever a file holds, the outcome is data or faults."""
    document = read(text, {})
    assert document.readable or document.faults


@given(st.text("ab:[]{}-&*!?|>'\"#%@` \n\t<,$", max_size=60))
def test_no_yaml_like_text_escapes_as_an_exception(text: str) -> None:
    """As above, nearer to YAML."""
    document = read(text, {})
    assert document.readable or document.faults
