"""Every way in which a YAML can be wrong is one line that names it."""

import pytest

from s4m_sb.errors import InputError
from s4m_sb.hparams import load_hparams


@pytest.mark.parametrize(
    "text, reason",
    [
        ("data_folder: !PLACEHOLDER", "data_folder"),
        ("a: !new:s4m_sb.filterbank.Encoder\n    stride: 0", "stride"),
        ("a: !new:s4m_sb.nothing.Here", "s4m_sb.nothing"),
        ("- just\n- a list", "keys"),
        ("a: [1", "line"),
    ],
)
def test_the_yaml_and_the_reason_are_named(tmp_path, text, reason):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_hparams(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value) and "\n" not in str(caught.value)


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
