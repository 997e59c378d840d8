"""A stored model, found, checked and loaded.

Above this file: `inference/interface.py`. Below it: `fetching.py`, `hparams.py`
and `loading.py`.
"""

import os
from typing import Any

import torch
from speechbrain.utils.logger import get_logger
from speechbrain.utils.run_opts import RunOptions

from s4m_sb.audio.resampling import check_rate
from s4m_sb.errors import InputError, one_line
from s4m_sb.pretrained.fetching import fetched_yaml, model_folder
from s4m_sb.pretrained.fit import check_fit
from s4m_sb.pretrained.hparams import load_hparams
from s4m_sb.pretrained.loading import (
    check_inside,
    check_pretrainer,
    load_collected,
    not_loaded,
    stay_in,
)
from s4m_sb.pretrained.model_yaml import MODULES, NUMBERS

logger = get_logger(__name__)

YAML = "hyperparams.yaml"


def load_model(
    source: str | os.PathLike,
    hparams_file: str = YAML,
    overrides: dict | str | None = None,
    overrides_must_match: bool = True,
    savedir: str | os.PathLike | None = None,
    trusted: bool = False,
    **fetch_options: Any,
) -> dict[str, Any]:
    """Loads what a model's YAML describes, with its parameters.

    Arguments
    ---------
    source, hparams_file, overrides, overrides_must_match, savedir, trusted
        As for `S4MSeparation.from_hparams`.
    **fetch_options : dict
        Of SpeechBrain's ``fetch``.

    Returns
    -------
    dict
        The keys of the YAML with their values, ``modules`` among them.

    Raises
    ------
    InputError
        As there.
    """
    folder = model_folder(source)
    if folder is not None:
        source, savedir = folder, None
    with fetched_yaml(str(source), hparams_file, savedir, fetch_options) as (
        yaml,
        place,
    ):
        if folder is not None and not trusted:
            check_inside(yaml, folder)
        hparams = load_hparams(
            yaml, overrides or {}, overrides_must_match, trusted
        )
        try:
            _check_model(hparams)
            modules, pretrainer = hparams["modules"], hparams["pretrainer"]
            if not trusted:
                check_pretrainer(pretrainer, folder or str(source))
                # SpeechBrain would take them: a compiler, another device.
                for option in RunOptions().as_dict():
                    hparams.pop(option, None)
            for key in not_loaded(pretrainer, modules):
                message = f"the pretrainer loads no parameters into '{key}'"
                if not trusted:
                    raise InputError(message)
                logger.warning(f"{yaml}: {message}")
        except InputError as error:
            raise InputError(f"{yaml}: {error}") from error
        hparams["savedir"] = savedir
        pretrainer.set_collect_in(place)
        if folder is not None:
            stay_in(pretrainer, folder, trusted)
        load_collected(pretrainer, str(source), **fetch_options)
        try:
            check_fit(modules, hparams["sample_rate"], hparams["num_spks"])
        except InputError as error:
            raise InputError(f"{yaml}: {error}") from error
    return hparams


def load_pretrained(
    source: str | os.PathLike,
    modules: dict[str, torch.nn.Module],
    trusted: bool = False,
) -> None:
    """Loads a model's parameters into modules of the same network.

    To go on training a model, or to evaluate it.

    Arguments
    ---------
    source : str or os.PathLike
        As for `S4MSeparation.from_hparams`.
    modules : dict
        ``encoder``, ``masknet`` and ``decoder``.
    trusted : bool
        As there: a network of one's own needs it.

    Raises
    ------
    InputError
        If there is no such model, or it is another network.
    """
    loaded = load_model(source, trusted=trusted)["modules"]
    for name in MODULES:
        try:
            modules[name].load_state_dict(loaded[name].state_dict())
        except RuntimeError as error:
            raise InputError(
                f"pretrained_model: the {name} of {source} is another "
                f"network than that of the YAML ({one_line(error)})"
            ) from error


def _check_model(hparams: dict[str, Any]) -> None:
    """Refuses what does not describe a model."""
    for key in ("modules", "pretrainer", *NUMBERS):
        if key not in hparams:
            raise InputError(
                f"has no '{key}'; a training run becomes a model by: "
                "s4m export RESULTS_DIR OUT_DIR"
            )
    for key in NUMBERS:
        value = hparams[key]
        if type(value) is not int or value < 1:
            raise InputError(
                f"{key} is {value!r:.99}; give a whole number above 0"
            )
    check_rate(hparams["sample_rate"])
    modules = hparams["modules"]
    for key in MODULES:
        if not isinstance(modules, dict) or key not in modules:
            raise InputError(f"has no '{key}' in its modules")
    for key, module in modules.items():
        if not isinstance(module, torch.nn.Module):
            raise InputError(f"'{key}' in its modules is no network")
        try:
            torch.nn.ModuleDict({key: module})  # as SpeechBrain does later
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{key!r:.99} in its modules is no name for a network"
            ) from error
    num_spks = hparams["num_spks"]
    num_masks = getattr(modules["masknet"], "num_spks", num_spks)
    if num_masks != num_spks:
        raise InputError(
            f"num_spks is {num_spks}, but its masknet gives {num_masks} voices"
        )
