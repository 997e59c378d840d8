"""A trained model in three lines: `S4MSeparation`.

The shapes are those of SpeechBrain's ``SepformerSeparation``, whose models it
also loads, so that one import replaces the other.
"""

import os
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.data_utils import split_path
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch

from s4m_sb.audio import read_audio
from s4m_sb.errors import InputError, one_line
from s4m_sb.hparams import load_hparams
from s4m_sb.lengths import num_samples, sample_mask
from s4m_sb.parameters import load_parameters
from s4m_sb.separate import separate

DEFAULT_MODEL = "s4m-8k"
SHIPPED_MODELS = Path(__file__).parent / "pretrained"
NORMALIZATIONS = ("peak", "mixture", "none")

SILENT_PEAK = 1e-4  # three times the last bit of 16-bit audio, its dither
SILENT_VOICE = 1e-4  # a voice 80 dB below the loudest one is no voice
SHORTEST_S = 0.1  # SpeechBrain's encoders fail below their kernel size


class S4MSeparation(Pretrained):
    """A ready-to-use speech separation model.

    Takes models of this package (``s4m export``) and SpeechBrain's own
    (SepFormer, ConvTasNet, ...): whatever has an encoder, a masknet and a
    decoder, and the keys ``sample_rate`` and ``num_spks``.

    Example
    -------
    >>> tmp_path = getfixture("tmp_path")
    >>> _ = (tmp_path / "hyperparams.yaml").write_text('''
    ... sample_rate: 8000
    ... num_spks: 2
    ... modules:
    ...     encoder: !new:s4m_sb.filterbank.Encoder
    ...     masknet: !new:s4m_sb.masknet.S4MMaskNet
    ...         d_model: 8
    ...         d_hidden: 16
    ...         num_repeats: 1
    ...     decoder: !new:s4m_sb.filterbank.Decoder
    ... pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    ... ''')
    >>> model = S4MSeparation.from_hparams(tmp_path)
    >>> model.separate_batch(torch.randn(1, 400)).shape
    torch.Size([1, 400, 2])
    """

    HPARAMS_NEEDED = ["sample_rate", "num_spks"]
    MODULES_NEEDED = ["encoder", "masknet", "decoder"]

    @classmethod
    def from_hparams(
        cls,
        source: str | os.PathLike = DEFAULT_MODEL,
        hparams_file: str = "hyperparams.yaml",
        overrides: dict | str | None = None,
        overrides_must_match: bool = True,
        savedir: str | os.PathLike | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig = FetchConfig(),  # noqa: B008  (frozen)
        run_opts: dict | None = None,
        freeze_params: bool = True,
    ) -> "S4MSeparation":
        """Loads a model.

        Arguments
        ---------
        source : str or os.PathLike
            A model folder, which is read where it is; the name of a model
            that ships with the package; or what SpeechBrain can fetch, such
            as ``speechbrain/sepformer-wsj02mix`` on the Hugging Face Hub.
        hparams_file : str
            The YAML in it.
        overrides : dict or str, optional
            Changes to the YAML.
        overrides_must_match : bool
            Refuse overrides of keys that the YAML does not have.
        savedir : str or os.PathLike, optional
            Where fetched files are put; by default they stay in the Hub's
            cache. Unused for a model on this machine.
        local_strategy : LocalStrategy
            How fetched files get into ``savedir``.
        fetch_config : FetchConfig
            How to fetch.
        run_opts : dict, optional
            SpeechBrain's run options, such as ``{"device": "cuda"}``.
        freeze_params : bool
            Put the network into evaluation mode, without gradients.

        Returns
        -------
        S4MSeparation
            The model.

        Raises
        ------
        InputError
            If there is no such model, a part of it is missing, or its
            parameters do not fit its network.
        """
        folder = model_folder(source)
        if folder is not None:
            source, savedir = folder, None
        fetch_options = {
            "local_strategy": local_strategy,
            "fetch_config": fetch_config,
        }
        yaml = _fetch_yaml(str(source), hparams_file, savedir, fetch_options)
        hparams = load_hparams(yaml, overrides or {}, overrides_must_match)
        for key in ("modules", "pretrainer", *cls.HPARAMS_NEEDED):
            if key not in hparams:
                raise InputError(
                    f"{yaml}: has no '{key}'; a training run becomes a model "
                    "by: s4m export RESULTS_DIR OUT_DIR"
                )
        for key in cls.MODULES_NEEDED:
            if key not in hparams["modules"]:
                raise InputError(f"{yaml}: has no '{key}' in its modules")
        hparams["savedir"] = savedir
        pretrainer = hparams["pretrainer"]
        pretrainer.set_collect_in(savedir)
        pretrainer.add_custom_hooks(
            {
                name: load_parameters
                for name, loadable in pretrainer.loadables.items()
                if isinstance(loadable, torch.nn.Module)
                and name not in pretrainer.custom_hooks
            }
        )
        pretrainer.collect_files(default_source=str(source), **fetch_options)
        pretrainer.load_collected()
        return cls(
            modules=hparams["modules"],
            hparams=hparams,
            run_opts=run_opts,
            freeze_params=freeze_params,
        )

    def separate_batch(
        self, mix: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Separates mixtures, as the network gives the voices.

        Arguments
        ---------
        mix : torch.Tensor
            Mixtures at the model's sample rate, ``[B, T]``, or a single one,
            ``[T]``; any length from one sample.
        lengths : torch.Tensor, optional
            Relative lengths, ``[B]``: what lies behind is padding. It does
            not change the rest, and its voices are zero.

        Returns
        -------
        torch.Tensor
            Voices, ``[B, T, S]``.

        Raises
        ------
        InputError
            If ``mix`` has another shape, no samples, integers, or NaN or
            infinite samples.
        """
        if mix.dim() == 1:
            mix = mix.unsqueeze(0)  # [T] -> [1, T]
        if mix.dim() != 2 or mix.shape[1] == 0:
            raise InputError(
                f"mix {tuple(mix.shape)}: [B, T] or [T] with samples is needed"
            )
        if not mix.is_floating_point():
            raise InputError(
                f"mix of {mix.dtype}: floating-point samples are needed"
            )
        mix = mix.to(self.device, next(self.mods.parameters()).dtype)
        T = mix.shape[1]
        if lengths is not None:
            lengths = lengths.to(self.device)
            mix = mix.masked_fill(~sample_mask(num_samples(lengths, T), T), 0)
        if not mix.isfinite().all():
            raise InputError("mix holds NaN or infinite samples")
        shortest = round(SHORTEST_S * self.hparams.sample_rate)
        if T < shortest:
            mix = F.pad(mix, (0, shortest - T))
            full = mix.new_ones(len(mix)) if lengths is None else lengths
            lengths = full * T / shortest
        with self.inference_ctx:
            voices = separate(
                mix,
                lengths,
                self.mods.encoder,
                self.mods.masknet,
                self.mods.decoder,
            )
        return voices[:, :T]

    @torch.no_grad()
    def separate_file(
        self,
        path: str | os.PathLike,
        savedir: str | os.PathLike | None = None,
        normalize: str = "peak",
    ) -> torch.Tensor:
        """Separates the voices of an audio file.

        Any sample rate and format that libsndfile reads; several channels
        are averaged.

        Arguments
        ---------
        path : str or os.PathLike
            A file on this machine, a web address, or a file on the Hugging
            Face Hub (``owner/repository/file.wav``).
        savedir : str or os.PathLike, optional
            Where a fetched file is put. A file of the same name there is
            replaced, never used in its place.
        normalize : str
            The level of the voices; see `normalize_voices`.

        Returns
        -------
        torch.Tensor
            Voices at the model's sample rate, ``[1, T, S]``.

        Raises
        ------
        InputError
            If the file is missing, empty, not audio, or has no samples or
            NaN ones, or if ``normalize`` is unknown.
        """
        check_normalization(normalize)
        with tempfile.TemporaryDirectory() as temporary:
            mix, _ = read_audio(
                _fetch_audio(path, savedir, temporary),
                self.hparams.sample_rate,
            )
        mix = mix.unsqueeze(0).to(self.device)  # [1, T]
        return normalize_voices(self.separate_batch(mix), mix, normalize)

    def forward(
        self, mix: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Separates mixtures; see `separate_batch`."""
        return self.separate_batch(mix, lengths)


def model_folder(source: str | os.PathLike = DEFAULT_MODEL) -> Path | None:
    """The folder of a model that is on this machine.

    Arguments
    ---------
    source : str or os.PathLike
        A folder, or the name of a model that ships with the package.

    Returns
    -------
    Path or None
        None for what is to be fetched: a web address or ``owner/repository``
        on the Hugging Face Hub.

    Raises
    ------
    InputError
        If it is none of these.

    Example
    -------
    >>> model_folder("speechbrain/sepformer-wsj02mix") is None
    True
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    name = str(source)
    shipped = sorted(path.name for path in SHIPPED_MODELS.glob("[!._]*"))
    if name in shipped:
        return SHIPPED_MODELS / name
    if name.startswith(("http:", "https:")):
        return None
    owner, *rest = name.split("/")
    if owner not in ("", ".", "..", "~") and len(rest) == 1 and rest[0]:
        return None
    raise InputError(
        f"{name}: is neither a model folder nor a model of the package "
        f"(which has: {', '.join(shipped) or 'none'})"
    )


def load_pretrained(
    source: str | os.PathLike, modules: dict[str, torch.nn.Module]
) -> None:
    """Loads a model's parameters into modules of the same network.

    To go on training a model, or to evaluate it.

    Arguments
    ---------
    source : str or os.PathLike
        As for `S4MSeparation.from_hparams`.
    modules : dict
        ``encoder``, ``masknet`` and ``decoder``.

    Raises
    ------
    InputError
        If there is no such model, or it is another network.
    """
    model = S4MSeparation.from_hparams(source)
    for name in S4MSeparation.MODULES_NEEDED:
        try:
            modules[name].load_state_dict(model.mods[name].state_dict())
        except RuntimeError as error:
            reason = one_line(error)
            raise InputError(
                f"pretrained_model: the {name} of {source} is another "
                f"network than that of the YAML ({reason})"
            ) from error


def normalize_voices(
    voices: torch.Tensor, mix: torch.Tensor, normalize: str
) -> torch.Tensor:
    """Gives separated voices a level; what a network learns has none.

    Arguments
    ---------
    voices : torch.Tensor
        ``[B, T, S]``.
    mix : torch.Tensor
        What was separated, ``[B, T]``.
    normalize : str
        "peak": each voice reaches 1, as in SpeechBrain. Silence stays
        silence: nothing is amplified that lies 80 dB below the loudest voice
        or comes from a mixture with a peak under 1e-4.
        "mixture": each voice as loud as in the mixture, and of its sign, by
        the least-squares gains with which the voices sum to the mixture.
        "none": as the network gives them.

    Returns
    -------
    torch.Tensor
        ``[B, T, S]``.

    Raises
    ------
    InputError
        If ``normalize`` is none of these.

    Example
    -------
    >>> voices = torch.tensor([[[0.5, 0.0], [-0.2, 0.0]]])
    >>> normalize_voices(voices, voices.sum(2), "peak")[0, 0]
    tensor([1., 0.])
    """
    check_normalization(normalize)
    if normalize == "none":
        return voices
    if normalize == "mixture":
        return voices * _gains_to_sum_to(mix, voices)
    peaks = voices.abs().amax(dim=1, keepdim=True)  # [B, 1, S]
    silent = peaks <= SILENT_VOICE * peaks.amax(dim=2, keepdim=True)
    silent = silent | (mix.abs().amax(dim=1) <= SILENT_PEAK).view(-1, 1, 1)
    return voices / peaks.masked_fill(silent, 1.0)


def check_normalization(normalize: str) -> None:
    """Refuses an unknown way to normalize.

    Arguments
    ---------
    normalize : str
        See `normalize_voices`.

    Raises
    ------
    InputError
        If it is unknown.
    """
    if normalize not in NORMALIZATIONS:
        raise InputError(
            f"normalize={normalize!r}: give one of {', '.join(NORMALIZATIONS)}"
        )


def _gains_to_sum_to(mix: torch.Tensor, voices: torch.Tensor) -> torch.Tensor:
    """Least-squares gains ``[B, 1, S]``; 0 for a voice that is zero."""
    norms = voices.norm(dim=1, keepdim=True).clamp(min=1e-12)
    unit = voices / norms
    products = unit.mT @ unit  # [B, S, S]
    # Voices that are nearly alike would get huge gains of opposite sign.
    ridge = 1e-3 * torch.eye(voices.shape[2]).to(voices)
    projections = unit.mT @ mix.unsqueeze(2)  # [B, S, 1]
    return torch.linalg.solve(products + ridge, projections).mT / norms


def _fetch_yaml(
    source: str,
    hparams_file: str,
    savedir: str | os.PathLike | None,
    fetch_options: dict,
) -> Path:
    try:
        path = fetch(
            hparams_file, source=source, savedir=savedir, **fetch_options
        )
    except Exception as error:  # whatever the network and the Hub may raise
        raise InputError(
            f"{source}: no such folder, and it cannot be fetched "
            f"({_first_line(error)})"
        ) from error
    if not path.is_file():
        raise InputError(f"{path}: no such file; is this a model folder?")
    return path


def _fetch_audio(
    path: str | os.PathLike,
    savedir: str | os.PathLike | None,
    temporary: str,
) -> str | os.PathLike:
    """The file itself if it is on this machine."""
    name = str(path)
    is_web = name.startswith(("http:", "https:"))
    is_hub = not os.path.isabs(name) and name.count("/") >= 2
    if os.path.exists(path) or not (is_web or is_hub):
        return path
    source, file_name = split_path(name)
    try:
        return fetch(
            file_name,
            source=source,
            savedir=savedir or temporary,
            fetch_config=FetchConfig(overwrite=True),
        )
    except Exception as error:  # whatever the network and the Hub may raise
        raise InputError(
            f"{path}: no such file, and it cannot be fetched "
            f"({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
