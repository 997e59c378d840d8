"""A model folder and a training run that are small, untrained and real."""

import sys

import speechbrain
import torch
from hyperpyyaml import load_hyperpyyaml

NETWORK = """\
sample_rate: 8000
num_spks: {num_spks}

Encoder: !new:s4m_sb.network.filterbank.Encoder
MaskNet: !new:s4m_sb.network.masknet.S4MMaskNet
    num_spks: !ref <num_spks>
    d_model: 8
    d_hidden: 16
    num_scales: 3
    num_repeats: 2
Decoder: !new:s4m_sb.network.filterbank.Decoder
"""

# SpeechBrain's own modules: SepFormer in small.
SEPFORMER = """\
sample_rate: 8000
num_spks: {num_spks}

Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
    kernel_size: 16
    out_channels: 8
Intra: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
    num_layers: 1
    d_model: 8
    nhead: 2
    d_ffn: 16
    dropout: 0
Inter: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
    num_layers: 1
    d_model: 8
    nhead: 2
    d_ffn: 16
    dropout: 0
MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
    num_spks: !ref <num_spks>
    in_channels: 8
    out_channels: 8
    num_layers: 1
    K: 50
    intra_model: !ref <Intra>
    inter_model: !ref <Inter>
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: 8
    out_channels: 1
    kernel_size: 16
    stride: 8
    bias: False
"""

MODULES = """
modules:
    encoder: !ref <Encoder>
    masknet: !ref <MaskNet>
    decoder: !ref <Decoder>
"""

PRETRAINER = """
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        encoder: !ref <Encoder>
        masknet: !ref <MaskNet>
        decoder: !ref <Decoder>
"""


TRAINING = """
seed: 1234
__set_seed: !apply:speechbrain.utils.seed_everything [!ref <seed>]
data_folder: !PLACEHOLDER
output_folder: results/small
save_folder: !ref <output_folder>/save
lr: 0.001
optimizer: !name:torch.optim.Adam
    lr: !ref <lr>
epoch_counter: !new:speechbrain.utils.epoch_loop.EpochCounter
    limit: 3
checkpointer: !new:speechbrain.utils.checkpoints.Checkpointer
    checkpoints_dir: !ref <save_folder>
    recoverables:
        encoder: !ref <Encoder>
        masknet: !ref <MaskNet>
        decoder: !ref <Decoder>
        counter: !ref <epoch_counter>
"""


def write_model(folder, network=NETWORK, num_spks=2):
    """A model folder with random parameters; the same at every call."""
    text = network.format(num_spks=num_spks) + MODULES + PRETRAINER
    folder.mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(text)
    torch.manual_seed(1)
    for name, module in load_hyperpyyaml(text)["modules"].items():
        torch.save(module.state_dict(), folder / f"{name}.ckpt")
    return folder


def train(folder, network=NETWORK, losses=(-3.0, -7.0, -5.0), overrides=""):
    """What a recipe leaves behind, without the training itself.

    Returns the parameters at each checkpoint.
    """
    folder.mkdir(parents=True)
    yaml = folder.parent / "train.yaml"
    yaml.write_text(network.format(num_spks=2) + TRAINING + MODULES)
    overrides = f"data_folder: /data\noutput_folder: {folder}\n{overrides}"
    with open(yaml) as file:
        hparams = load_hyperpyyaml(file, overrides)
    excepthook = sys.excepthook
    speechbrain.create_experiment_directory(
        folder, yaml, overrides, save_env_desc=False
    )
    sys.excepthook = excepthook
    states = []
    for epoch, loss in enumerate(losses):
        for module in hparams["modules"].values():
            for parameter in module.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
        states.append(
            {
                f"{name}.{key}": value.clone()
                for name, module in hparams["modules"].items()
                for key, value in module.state_dict().items()
            }
        )
        hparams["checkpointer"].save_checkpoint(
            meta={} if loss is None else {"si-snr": loss, "epoch": epoch}
        )
    return states


class OwnMaskNet(torch.nn.Module):
    """A network that is not in the list."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(2, 1, 1, 1))

    def forward(self, features):
        return self.gain * features.sigmoid()  # [S, B, F, L]
