"""What a training that goes on may change, and what is said of it."""

import shutil

import pytest

from s4m_sb.errors import InputError
from s4m_sb.training.continuing import changes_of_run

YAML = """
sample_rate: 8000
num_spks: 2
dynamic_mixing: False
seed: 1
lr: 0.1
decay: null
ema_decay: !ref <decay>
output_folder: results
save_folder: !ref <output_folder>/save
loss: !name:s4m_sb.metrics.pit_sa_sdr_loss
    max_sdr_db: 30
optimizer: !name:torch.optim.Adam
    lr: !ref <lr>
lr_scheduler: !new:speechbrain.nnet.schedulers.NewBobScheduler
    initial_value: !ref <lr>
Encoder: !new:s4m_sb.network.filterbank.Encoder
MaskNet: !new:s4m_sb.network.masknet.S4MMaskNet
    num_spks: !ref <num_spks>
    checkpoint_repeats: False
Decoder: !new:s4m_sb.network.filterbank.Decoder
modules:
    encoder: !ref <Encoder>
    masknet: !ref <MaskNet>
    decoder: !ref <Decoder>
"""


@pytest.fixture
def earlier_run(tmp_path):
    """The output folder of a training, and the YAML that it was made with."""
    folder = tmp_path / "results"
    (folder / "save" / "CKPT+1").mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(YAML)
    (tmp_path / "recipe.yaml").write_text(YAML)
    return folder, tmp_path / "recipe.yaml"


@pytest.mark.parametrize(
    "overrides, changes",
    [
        ("", []),
        ("lr: 0.10", []),
        ("lr: 0.2", ["lr: 0.2 (was 0.1)"]),
        ("decay: 0.9", ["decay: 0.9 (was None)", "ema_decay: 0.9 (was None)"]),
        ("output_folder: /moved", []),  # it is there now
        ("optimizer: {weight_decay: 0.1}", []),  # a part of a kind
    ],
)
def test_what_changes_takes_effect_and_is_said(earlier_run, overrides, changes):
    assert changes_of_run(*earlier_run, overrides) == changes


def test_repeats_may_be_checkpointed_from_now_on(earlier_run):
    changes = changes_of_run(
        *earlier_run, "MaskNet: {checkpoint_repeats: True}"
    )
    assert changes == []


def test_a_schedule_in_the_checkpoints_stays(earlier_run):
    """Its loader would bring the old one back, whatever the YAML says."""
    overrides = "lr_scheduler: {initial_value: 0.2}"
    assert changes_of_run(*earlier_run, overrides) == []
    with pytest.raises(InputError, match="lr_scheduler: .*0.1, now .*0.2"):
        changes_of_run(*earlier_run, overrides, stored=("lr_scheduler",))


@pytest.mark.parametrize("content", ["", "num_spks: 2", "- 1", "a: [", "\0"])
def test_a_damaged_yaml_says_what_to_do(earlier_run, content):
    folder, recipe = earlier_run
    (folder / "hyperparams.yaml").write_text(content)
    with pytest.raises(InputError, match="remove it and start again") as caught:
        changes_of_run(folder, recipe, "")
    message = str(caught.value)
    assert message.startswith(f"{folder}/hyperparams.yaml: ")
    assert "\n" not in message
    (folder / "hyperparams.yaml").unlink()
    assert changes_of_run(folder, recipe, "") == []


def test_what_is_only_tested_may_have_been_trained_otherwise(earlier_run):
    for overrides in ("seed: 2", "loss: !name:torch.nn.functional.mse_loss"):
        changes_of_run(*earlier_run, overrides, test_only=True)
    with pytest.raises(InputError, match="another training"):
        changes_of_run(*earlier_run, "num_spks: 3", test_only=True)


@pytest.mark.parametrize(
    "overrides, was",
    [
        ("num_spks: 3", "num_spks: 2, now num_spks: 3"),
        ("dynamic_mixing: True", "dynamic_mixing: (?i:False, now .*: True)"),
        ("sample_rate: 16000", "sample_rate: 8000, now"),
        ("seed: 2", "seed: 1, now seed: 2"),
        ("loss: {max_sdr_db: 20}", "max_sdr_db 30, now .*max_sdr_db 20"),
        ("optimizer: !name:torch.optim.SGD", "torch.optim.Adam, now .*SGD"),
        ("lr_scheduler: null", "NewBobScheduler, now lr_scheduler: None"),
    ],
)
def test_another_training_needs_another_folder(earlier_run, overrides, was):
    with pytest.raises(InputError, match=f"results: .*{was}.*--output_folder"):
        changes_of_run(*earlier_run, overrides)


def test_an_average_does_not_end_on_the_way(earlier_run):
    """The best checkpoint would be one of averages, or one of weights."""
    folder, recipe = earlier_run
    text = YAML.replace("decay: null", "decay: 0.9")
    (folder / "hyperparams.yaml").write_text(text)
    with pytest.raises(InputError, match="ema_decay: 0.9, now ema_decay: None"):
        changes_of_run(folder, recipe, "")


def test_without_checkpoints_any_training_may_start(earlier_run):
    folder, recipe = earlier_run
    shutil.rmtree(folder / "save" / "CKPT+1")
    changes_of_run(folder, recipe, "num_spks: 3")
