"""Every way in which a YAML can be wrong is one line that names it."""

import pytest

from s4m_sb.errors import InputError
from s4m_sb.pretrained.hparams import load_hparams


@pytest.mark.parametrize(
    "text, reason",
    [
        ("data_folder: !PLACEHOLDER", "data_folder"),
        ("a: !new:s4m_sb.network.filterbank.Encoder\n    stride: 0", "stride"),
        ("a: !new:s4m_sb.nothing.Here", "s4m_sb.nothing"),
        ("- just\n- a list", "keys"),
        ("a: [1", "line"),
        ("a: 1\na: 2", "found duplicate key"),
        ("", "has no keys"),
        ("# nothing", "has no keys"),
        ("- 1", "has no keys"),
        ("text", "has no keys"),
        ("!new:torch.nn.ReLU {inplace: True}", "has no keys"),
        ("a: 2\n1: 3", "line 2: the key 1 is no text"),
        ("true: 3", "line 1: the key true is no text"),
        ("a: 1\n? [b]\n: 2", "line 2: the key there is no text"),
        ("b: 1\na: !ref <a>", "line 2: refers to itself"),
        ("a: !copy <b>\nb: !ref <a>", "line 1: refers to itself"),
        ("a: !ref <a>/x", "line 1: refers to itself"),
        ("a:\n    b: !ref <a>", "line 2: refers to itself"),
        ("b:\n  d: !ref <c>\nc:\n- !ref <b[d]>", "line 2: refers to its"),
        ("a: &a [*a]", "line 1: refers to itself"),
        ("a: " + "[" * 999, "is nested too deeply"),
        ("a: " + "{b: " * 999 + "}" * 999, "is nested too deeply"),
        ("a: (" + "[" * 999 + "]" * 999 + ")", "is nested too deeply"),
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_the_yaml_and_the_reason_are_named(tmp_path, text, reason, trusted):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_hparams(path, trusted=trusted)
    assert str(caught.value).startswith(f"{path}: ")
    message = str(caught.value)
    assert reason in message and "\n" not in message
    assert "To suppress" not in message and "http" not in message


def test_references_to_a_part_of_what_they_stand_in(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "a:\n    b: !ref <a[c]> * 2\n    c: 3\n"
        "    d: {g: 4, h: !ref '<a[d][g]>'}\n"
        "e: &e\n- 1\n- !ref <a[b]>\nf: [*e, *e, !copy <e>]\nn: {1: 2}\n"
    )
    for trusted in (True, False):
        hparams = load_hparams(path, trusted=trusted)
        assert hparams["a"] == {"b": 6, "c": 3, "d": {"g": 4, "h": 4}}
        assert hparams["f"] == [[1, 6]] * 3
        assert hparams["n"] == {1: 2}


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(InputError, match="none.yaml: No such file"):
        load_hparams(tmp_path / "none.yaml")


def test_a_folder_that_cannot_be_made_is_named_not_the_yaml(tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "c: !new:speechbrain.utils.checkpoints.Checkpointer\n"
        f"    checkpoints_dir: {tmp_path / 'file' / 'save'}\n"
    )
    with pytest.raises(InputError) as caught:
        load_hparams(path)
    assert str(tmp_path / "file") in str(caught.value).split(": ")[0]


@pytest.mark.parametrize("trusted", [True, False])
def test_a_yaml_larger_than_memory_is_refused(tmp_path, trusted):
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1\n")
    with open(path, "r+b") as file:
        file.truncate(2**40)  # a hole in the file
    with pytest.raises(InputError, match="recipe.yaml: has more than 1000000"):
        load_hparams(path, trusted=trusted)
