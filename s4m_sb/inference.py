"""A trained model in three lines: `S4MSeparation`.

The shapes are those of SpeechBrain's ``SepformerSeparation``, whose models it
also loads, so that one import replaces the other.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.data_utils import split_path
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from tqdm import tqdm

from s4m_sb.audio import audio_info, read_audio
from s4m_sb.audio_stream import stream_audio
from s4m_sb.chunking import CHUNK_S, piece_sizes, separate_in_pieces
from s4m_sb.errors import InputError, one_line
from s4m_sb.hparams import load_hparams
from s4m_sb.lengths import num_samples, sample_mask
from s4m_sb.levels import RunningLevel, check_normalization, normalize_voices
from s4m_sb.parameters import load_parameters
from s4m_sb.separate import separate
from s4m_sb.voice_files import write_voices

DEFAULT_MODEL = "s4m-8k"
SHIPPED_MODELS = Path(__file__).parent / "pretrained"
SECONDS_BAR = "{desc}: {bar} {n:.0f} of {total:.0f} s [{remaining} left]"
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
        self,
        mix: torch.Tensor,
        lengths: torch.Tensor | None = None,
        chunk_s: float | None = None,
        overlap_s: float | None = None,
        batch_size: int = 1,
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
        chunk_s : float, optional
            Cut longer mixtures into pieces of so many seconds, which bounds
            the memory that the network takes; see `chunking.py`. By default
            they go through the network as they are.
        overlap_s : float, optional
            Seconds that consecutive pieces share; by default 4, and at most
            a quarter of a piece.
        batch_size : int
            Pieces that are separated at once.

        Returns
        -------
        torch.Tensor
            Voices, ``[B, T, S]``.

        Raises
        ------
        InputError
            If ``mix`` has another shape, no samples, integers, or NaN or
            infinite samples, or the pieces cannot overlap so.
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
        if chunk_s is not None:
            return self._separate_items(
                mix, lengths, chunk_s, overlap_s, batch_size
            )
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
        chunk_s: float | None = None,
        overlap_s: float | None = None,
        batch_size: int = 1,
        progress: bool = False,
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
            The level of the voices; see `levels.normalize_voices`.
        chunk_s : float, optional
            Read and separate the file in pieces of so many seconds, so that
            only the voices grow with its length (4 bytes a sample and
            voice); `separate_to_files` keeps not even those.
        overlap_s : float, optional
            Seconds that consecutive pieces share; by default 4, and at most
            a quarter of a piece.
        batch_size : int
            Pieces that are separated at once.
        progress : bool
            Show a progress bar, if the file is separated in pieces.

        Returns
        -------
        torch.Tensor
            Voices at the model's sample rate, ``[1, T, S]``.

        Raises
        ------
        InputError
            If the file is missing, empty, not audio, or has no samples or
            NaN ones, if ``normalize`` is unknown, or the pieces cannot
            overlap so.
        """
        check_normalization(normalize)
        with tempfile.TemporaryDirectory() as temporary:
            local = _fetch_audio(path, savedir, temporary)
            if chunk_s is not None:
                blocks = self._separate_blocks(
                    local, chunk_s, overlap_s, batch_size, progress
                )
                voices = _at_level(blocks, self.hparams.num_spks, normalize)
                return voices.to(self.device)
            mix, _ = read_audio(local, self.hparams.sample_rate)
        mix = mix.unsqueeze(0).to(self.device)  # [1, T]
        return normalize_voices(self.separate_batch(mix), mix, normalize)

    @torch.no_grad()
    def separate_to_files(
        self,
        path: str | os.PathLike,
        outputs: Sequence[str | os.PathLike],
        savedir: str | os.PathLike | None = None,
        normalize: str = "peak",
        chunk_s: float = CHUNK_S,
        overlap_s: float | None = None,
        batch_size: int = 1,
        progress: bool = False,
    ) -> None:
        """Separates an audio file of any length in bounded memory.

        From disk to disk, in pieces: what `separate_file` gives in pieces,
        as 32-bit float WAV files at the model's sample rate. They appear
        when all of them are whole, or not at all.

        Arguments
        ---------
        path : str or os.PathLike
            As in `separate_file`.
        outputs : sequence of str or os.PathLike
            The files to write, one a voice.
        savedir : str or os.PathLike, optional
            As in `separate_file`.
        normalize : str
            The level of the voices; see `levels.normalize_voices`.
        chunk_s : float
            Seconds of a piece.
        overlap_s : float, optional
            Seconds that consecutive pieces share; by default 4, and at most
            a quarter of a piece.
        batch_size : int
            Pieces that are separated at once.
        progress : bool
            Show a progress bar.

        Raises
        ------
        InputError
            As in `separate_file`, or if there are more or fewer ``outputs``
            than voices.
        OSError
            If the voices cannot be written, as on a full disk.
        """
        check_normalization(normalize)
        num_spks = self.hparams.num_spks
        if len(outputs) != num_spks:
            raise InputError(
                f"{len(outputs)} outputs for the {num_spks} voices of the model"
            )
        with tempfile.TemporaryDirectory() as temporary:
            local = _fetch_audio(path, savedir, temporary)
            write_voices(
                self._separate_blocks(
                    local, chunk_s, overlap_s, batch_size, progress
                ),
                outputs,
                self.hparams.sample_rate,
                normalize,
            )

    def forward(
        self, mix: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Separates mixtures; see `separate_batch`."""
        return self.separate_batch(mix, lengths)

    def _separate_items(
        self,
        mix: torch.Tensor,
        lengths: torch.Tensor | None,
        chunk_s: float,
        overlap_s: float | None,
        batch_size: int,
    ) -> torch.Tensor:
        """Voices ``[B, T, S]``, item by item in pieces."""
        T = mix.shape[1]
        counts = [T] * len(mix)
        if lengths is not None:
            counts = num_samples(lengths, T).tolist()
        sample_rate = self.hparams.sample_rate
        chunk, overlap = piece_sizes(chunk_s, overlap_s, sample_rate)
        items = []
        for item, count in zip(mix, counts, strict=True):
            blocks = separate_in_pieces(
                [item[:count]], self.separate_batch, chunk, overlap, batch_size
            )
            voices = torch.cat([voices for _, voices in blocks])  # [n, S]
            items.append(F.pad(voices, (0, 0, 0, T - count)))
        return torch.stack(items)

    def _separate_blocks(
        self,
        path: str | os.PathLike,
        chunk_s: float,
        overlap_s: float | None,
        batch_size: int,
        progress: bool,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Mixture ``[n]`` and voices ``[n, S]`` of a file, part by part."""
        sample_rate = self.hparams.sample_rate
        chunk, overlap = piece_sizes(chunk_s, overlap_s, sample_rate)
        info = audio_info(path)
        with tqdm(
            total=info.num_frames / info.sample_rate,
            desc=os.path.basename(path),
            bar_format=SECONDS_BAR,
            leave=False,
            disable=not progress,
        ) as bar:
            for mixture, voices in separate_in_pieces(
                stream_audio(path, sample_rate),
                lambda mix: self.separate_batch(mix).cpu(),
                chunk,
                overlap,
                batch_size,
            ):
                yield mixture, voices
                bar.update(len(mixture) / sample_rate)


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


def _at_level(
    blocks: Iterable[tuple[torch.Tensor, torch.Tensor]],
    num_spks: int,
    normalize: str,
) -> torch.Tensor:
    """Voices ``[1, T, S]`` from parts of mixture and voices."""
    level = RunningLevel(num_spks)
    parts = []
    for mixture, voices in blocks:
        level.add(voices, mixture)
        parts.append(voices)
    return torch.cat(parts).div_(level.divisors(normalize)).unsqueeze(0)


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
