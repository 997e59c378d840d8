"""What the YAML of a model may build: networks, and what loads them.

Whoever names a constructor in HyperPyYAML has it imported and called, so the
names are listed, and a name is compared as a whole: prefixes would let
``torch.nn.modules.module.os.system`` through. To add one, make sure that no
value of its arguments makes it read or write a file, import or call something
else than the classes below. There is one exception: an ``SBRNNBlock`` calls
what its ``rnn_type`` names in ``speechbrain.nnet.RNN``, and nothing behind
that. Its other arguments fit networks alone; `tests/test_allowed.py` lists
what stands there, so that an addition is noticed.
"""

PRETRAINER = "speechbrain.utils.parameter_transfer.Pretrainer"

CLASSES = {
    "s4m_sb.network.filterbank": ("Encoder", "Decoder"),
    "s4m_sb.network.masknet": ("S4MMaskNet",),
    # SepFormer, DPRNN, DPT-Net and the filterbank of all of them
    "speechbrain.lobes.models.dual_path": (
        "Encoder",
        "Decoder",
        "Dual_Path_Model",
        "SBTransformerBlock",
        "SBConformerEncoderBlock",
        "SBRNNBlock",
        "PytorchTransformerBlock",
        "DPTNetBlock",
    ),
    # RE-SepFormer and SkiM
    "speechbrain.lobes.models.resepformer": (
        "ResourceEfficientSeparator",
        "SBTransformerBlock_wnormandskip",
        "SBRNNBlock",
        "SegLSTM",
        "MemLSTM",
    ),
    "speechbrain.lobes.models.conv_tasnet": ("Encoder", "Decoder", "MaskNet"),
}

NAMES = {f"{module}.{name}" for module in CLASSES for name in CLASSES[module]}
NAMES.add(PRETRAINER)


def may_build(name: str) -> bool:
    """Whether the YAML of a model that is not trusted may name this.

    Arguments
    ---------
    name : str
        As it stands behind ``!new:`` or ``!name:``.

    Returns
    -------
    bool
        True for the names listed above and for the modules of PyTorch by
        their short name, such as ``torch.nn.ReLU``.

    Example
    -------
    >>> (
    ...     may_build("s4m_sb.network.masknet.S4MMaskNet"),
    ...     may_build("torch.nn.ReLU"),
    ... )
    (True, True)
    >>> may_build("os.system"), may_build("torch.nn.init.torch.load")
    (False, False)
    """
    if name in NAMES:
        return True
    if not name.startswith("torch.nn."):
        return False

    from torch import nn

    # One name deep, so that no attribute of an attribute is found.
    found = vars(nn).get(name.removeprefix("torch.nn."))
    return isinstance(found, type) and issubclass(found, nn.Module)
