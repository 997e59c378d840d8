"""Small networks, a brain around them, and data sets of noise."""

import functools
import importlib

import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger

from s4m_sb.metrics import pit_si_snr_loss
from s4m_sb.network.filterbank import Decoder, Encoder
from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.training.brain import SeparationBrain
from s4m_sb.training.objective import item_losses

time_domain = importlib.import_module("speechbrain.augment.time_domain")

AUGMENTATIONS = {
    "speed": {
        "use_speedperturb": True,
        "speed_perturb": time_domain.SpeedPerturb(8000, [90, 105, 110]),
    },
    "shift": {"use_rand_shift": True, "min_shift": -300, "max_shift": 300},
    "cut": {"limit_training_signal_len": True, "training_signal_len": 350},
}
AUGMENTATIONS["all"] = {
    name: value
    for options in list(AUGMENTATIONS.values())
    for name, value in options.items()
}


def s4m(num_spks=2):
    return {
        "encoder": Encoder(8, 16, 8),
        "masknet": S4MMaskNet(num_spks, 8, 6, 8, num_scales=3, num_repeats=2),
        "decoder": Decoder(8, 16, 8),
    }


def sepformer():
    lobe = importlib.import_module("speechbrain.lobes.models.dual_path")
    block = functools.partial(
        lobe.SBTransformerBlock, 1, 8, 2, d_ffn=8, dropout=0
    )
    masknet = lobe.Dual_Path_Model(
        8, 8, block(), block(), num_layers=1, K=20, num_spks=2
    )
    return {
        "encoder": lobe.Encoder(16, 8),
        "masknet": masknet,
        "decoder": lobe.Decoder(8, 1, 16, stride=8, bias=False),
    }


def make_brain(
    folder, modules=None, lr=1e-3, run_opts=None, optimizer=None, **hparams
):
    """A brain with its optimizer, as at the start of `fit`."""
    modules = modules or s4m()
    counter = EpochCounter(hparams.pop("N_epochs", 2))
    checkpointer = Checkpointer(
        folder / "save", {**modules, "counter": counter}
    )
    return SeparationBrain(
        modules=modules,
        opt_class=optimizer or functools.partial(torch.optim.Adam, lr=lr),
        hparams={
            "num_spks": 2,
            "sample_rate": 8000,
            "loss": pit_si_snr_loss,
            "output_folder": str(folder),
            "save_folder": str(folder / "save"),
            "train_logger": FileTrainLogger(str(folder / "train_log.txt")),
            "epoch_counter": counter,
            **hparams,
        },
        run_opts={"device": "cpu", "noprogressbar": True, **(run_opts or {})},
        checkpointer=checkpointer,
    )


def make_items(lengths, num_spks=2, seed=0):
    """Items of noise as a data set gives them."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for number, length in enumerate(lengths):
        sources = torch.randn(num_spks, length, generator=generator)
        signals = {"mix_sig": sources.sum(0)}
        for i, source in enumerate(sources, start=1):
            signals[f"s{i}_sig"] = source
        items.append({"id": f"item{number}", **signals})
    return items


def make_dataset(items):
    data = DynamicItemDataset(
        {item["id"]: {"signals": item} for item in items},
        output_keys=list(items[0]),
    )
    for name in items[0]:
        if name != "id":
            data.add_dynamic_item(
                lambda signals, name=name: signals[name],
                takes="signals",
                provides=name,
            )
    return data


def losses_of(brain, separated):
    """The loss of each item, ``[B]``."""
    return item_losses(brain.hparams.loss, separated)
