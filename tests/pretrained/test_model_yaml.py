"""The YAML of a model is what is left of the one that trained it."""

import pytest
from hyperpyyaml import load_hyperpyyaml
from small_model import MODULES, SEPFORMER, train

from s4m_sb.errors import InputError
from s4m_sb.pretrained.model_yaml import model_yaml


def test_the_yaml_holds_the_network_and_nothing_of_the_training(tmp_path):
    train(tmp_path / "run", SEPFORMER)
    resolved = (tmp_path / "run" / "hyperparams.yaml").read_text()
    written = SEPFORMER.format(num_spks=2) + MODULES
    from_both = {model_yaml(text) for text in (resolved, written)}
    assert len(from_both) == 1
    text = from_both.pop()
    for trace in ("data", "seed", "optim", "checkpoint", str(tmp_path), "&"):
        assert trace not in text
    hparams = load_hyperpyyaml(text.split("pretrainer")[0])
    assert list(hparams) == [
        "sample_rate",
        "num_spks",
        "Encoder",
        "Intra",
        "Inter",
        "MaskNet",
        "Decoder",
        "modules",
    ]
    assert hparams["modules"]["masknet"] is hparams["MaskNet"]
    assert "intra_model: !ref <Intra>" in text


def test_a_module_used_twice_stays_one(tmp_path):
    shared = SEPFORMER.replace(
        "inter_model: !ref <Inter>", "inter_model: !ref <Intra>"
    )
    text = model_yaml(shared.format(num_spks=2) + MODULES)
    assert text.count("!ref <Intra>") == 2
    assert "Inter:" not in text


def test_networks_inside_modules_get_a_name():
    text = model_yaml(
        "sample_rate: 8000\nnum_spks: 2\nmodules:\n"
        "  encoder: !new:s4m_sb.network.filterbank.Encoder\n"
        "  masknet: !new:s4m_sb.network.masknet.S4MMaskNet\n"
        "    d_model: 8\n"
        "    d_hidden: 16\n"
        "  decoder: !new:s4m_sb.network.filterbank.Decoder\n"
        "    kernel_size: 16\n"
    )
    hparams = load_hyperpyyaml(text)
    assert hparams["modules"]["encoder"] is hparams["encoder"]
    loadables = hparams["pretrainer"].loadables
    assert loadables["decoder"] is hparams["decoder"]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("sample_rate: 8000", "has no 'num_spks'"),
        ("sample_rate: 1\nnum_spks: 2", "has no 'modules'"),
        ("sample_rate: 1\nnum_spks: 2\nmodules:\n  encoder: 1", "'masknet'"),
        ("a: [", "run.yaml: "),
        ("a: !PLACEHOLDER", "PLACEHOLDER"),
        ("", "run.yaml"),
    ],
)
def test_a_wrong_yaml_is_one_line(yaml, message):
    with pytest.raises(InputError, match=message) as caught:
        model_yaml(yaml, "run.yaml")
    assert "\n" not in str(caught.value)
