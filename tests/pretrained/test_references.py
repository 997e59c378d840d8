"""References mean what HyperPyYAML makes of them, and never very much."""

import time

import pytest
from hyperpyyaml import (
    load_hyperpyyaml,
    resolve_references as resolved_by_hyperpyyaml,
)

from s4m_sb.errors import InputError
from s4m_sb.pretrained.references import compose, nodes, resolve
from s4m_sb.pretrained.safe_yaml import load_checked, resolve_checked

LIKE_HYPERPYYAML = """\
a: 3
b: {c: 2.5, d: [x, 1e-3, true, null, 0o17], e: 2001-01-01}
plus: !ref <a> + <b[c]>
all: !ref (<a> + 1) ** 2 // 3 - <a> % 2 * <b[c]> / 4
small: !ref 10 ** -<a>
minus: !ref -<a>
path: !ref <b[e]>/<a>.wav
quoted: !ref "'x' + 'y<a>'"
none: !ref no reference
whole: !ref <b>
same: !ref <whole>
part: !ref <b[d]>
copied: !copy <b>
base: &base {k: 1, l: 2}
merged: {<<: *base, l: 3}
both: {<<: [*base, {k: 7, m: 8}], n: !ref '<base[k]>'}
of_merged: !ref <merged[k]>
alias: *base
shape: (1, <a>)
__gone: 1
left: !ref <__gone>
"""


def test_references_mean_what_hyperpyyaml_makes_of_them():
    ours, theirs = load_checked(LIKE_HYPERPYYAML), None
    theirs = load_hyperpyyaml(LIKE_HYPERPYYAML)
    assert ours == theirs
    assert list(ours) == list(theirs)
    assert {k: type(v) for k, v in ours.items()} == {
        k: type(v) for k, v in theirs.items()
    }
    for loaded in (ours, theirs):
        assert loaded["whole"] is loaded["b"] is loaded["same"]
        assert loaded["part"] is loaded["b"]["d"]
        assert loaded["copied"] is not loaded["b"]
        assert loaded["alias"] is loaded["base"]


def test_what_is_written_again_means_the_same():
    text = resolve_checked(LIKE_HYPERPYYAML)
    assert "!ref" not in text and "!copy" not in text
    theirs = resolved_by_hyperpyyaml(LIKE_HYPERPYYAML).getvalue()
    assert load_hyperpyyaml(text) == load_hyperpyyaml(theirs)


@pytest.mark.parametrize(
    "overrides",
    [
        {"a": 4, "b": {"c": 9, "new": [1]}},
        "a: 4\nb:\n  c: !ref <a>\n  new: [1]",
        # not of what is merged: HyperPyYAML merges before it overrides
        {"merged": {"k": "text"}, "whole": None},
        {"part": (1, 2), "a": 1.5, "none": "0o17"},
        {},
        "",
    ],
)
def test_overrides_are_hyperpyyamls(overrides):
    ours = load_checked(LIKE_HYPERPYYAML, overrides)
    assert ours == load_hyperpyyaml(LIKE_HYPERPYYAML, overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"x": 1}, "Override 'x' not found"),
        ({"a": {"x": 1}}, "do not have its structure"),
        ("[1]", "do not have its structure"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        load_checked(LIKE_HYPERPYYAML, overrides)


def test_a_reference_may_lead_to_one_further_down():
    hparams = load_checked("a: !ref <b> * 2\nb: !ref <c>\nc: 3")
    assert hparams == {"a": 6, "b": 3, "c": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: !ref <c>", 'line 2: the reference "c" is not valid'),
        ("a: 1\nb: !ref <a[c]>", r'line 2: the reference "a\[c\]" is not'),
        ("a: [1]\nb: !ref <a>/x", 'line 2: the reference "a" is to no number'),
        ("a: 0\nb: !ref 1 / <a>", "line 2: 1 / 0 is division by zero"),
        ("a: 1\nb:\n  c: !PLACEHOLDER", r"line 3: 'b\[c\]' is a !PLACEHOLDER"),
        ("a: &a 1\nb: {<<: *a}", "line 2: merges no mapping"),
        ("b:\n  c: 1\n  c: 2", "line 3: found duplicate key c"),
        ("a: !ref <b[c]>\nb: !ref <a>", "line 1: refers to itself"),
    ],
)
def test_what_means_nothing_is_named(text, message):
    with pytest.raises(InputError, match=f"^{message}"):
        load_checked(text)
    if "duplicate" not in message:
        with pytest.raises(InputError, match=f"^{message}"):
            resolve_checked(text)


# Small texts that mean very much


def doubled(first, line, last=30):
    """Lines of which each has the one above it twice."""
    lines = [first] + [
        line.replace("OLD", f"a{n - 1}").replace("NEW", f"a{n}")
        for n in range(1, last)
    ]
    return "\n".join(lines)


BOMBS = {
    "aliases": doubled("a0: &a0 [x]", "NEW: &NEW [*OLD, *OLD]"),
    "references": doubled("a0: [x]", "NEW: [!ref <OLD>, !ref <OLD>]"),
    "copies": doubled("a0: [x]", "NEW: [!copy <OLD>, !copy <OLD>]"),
    "mappings": doubled("a0: {x: 1}", "NEW: {b: !ref <OLD>, c: !ref <OLD>}"),
    "modules": doubled(
        "a0: !new:torch.nn.ReLU",
        "NEW: !new:torch.nn.Sequential [!ref <OLD>, !ref <OLD>]",
    ),
    "in a tuple": "a: "
    + doubled("(&a0 [x]", ", &NEW [*OLD, *OLD]").replace("\n", "")
    + ")",
    "text": doubled("a0: 0123456789", "NEW: !ref <OLD><OLD>"),
    "text of tuples": doubled("a0: (x)", "NEW: !ref (<OLD>, <OLD>)"),
    "power": "n: 999\na: !ref <n>**<n>**<n>",
    "powers in brackets": "n: 999999999\na: !ref ((<n>**7)**<n>)",
    "power of a float": "n: 9.5\na: !ref <n>**999",
    "text times": "n: 10000000000\na: !ref '\"x\" * <n>'",
    "times text": "n: 10000000000\na: !ref '<n> * \"x\"'",
    "bytes times": "n: 10000000000\na: !ref 'b\"x\" * <n>'",
    "formatted": "n: 1\na: !ref \"'%9999999999d' % <n>\"",
    "long": "a: " + "x" * 10**6,
}


@pytest.mark.parametrize("name", BOMBS)
def test_little_never_means_very_much(name):
    start = time.process_time()
    for load in (load_checked, resolve_checked):
        with pytest.raises(InputError) as caught:
            load(BOMBS[name])
        message = str(caught.value)
        assert "\n" not in message and len(message) < 200
        assert message.startswith("line ") or name == "long"
    assert time.process_time() - start < 20  # seconds; it takes 1.5


def test_merging_merges_once():
    text = doubled("a0: &a0 {x: 1}", "NEW: &NEW {<<: [*OLD, *OLD], yNEW: 1}")
    hparams = load_checked(text)
    assert len(hparams["a29"]) == 30
    many = ", ".join(["*a"] * 2000)
    keys = ", ".join(f"k{n}: 1" for n in range(2000))
    with pytest.raises(InputError, match="line 2: has more than 100000 val"):
        load_checked(f"a: &a {{{keys}}}\nb: {{<<: [{many}]}}")


def test_places_are_those_of_keys_and_positions():
    root = resolve(compose("a: {b: [1, {c: 2}]}"))
    places = [place for place, node in nodes(root) if node.value in ("1", "2")]
    assert places == ["a[b][0]", "a[b][1][c]"]
