"""A trained model in three lines: `S4MSeparation`.

The shapes are those of SpeechBrain's ``SepformerSeparation``, whose models it
also loads, so that one import replaces the other.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.data_utils import split_path
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.logger import get_logger
from speechbrain.utils.run_opts import RunOptions
from tqdm import tqdm

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.stream import stream_audio
from s4m_sb.errors import InputError, first_line, one_line
from s4m_sb.inference.chunking import CHUNK_S, piece_sizes, separate_in_pieces
from s4m_sb.inference.levels import (
    RunningLevel,
    check_normalization,
    normalize_voices,
)
from s4m_sb.inference.voice_files import write_voices
from s4m_sb.network.lengths import num_samples, sample_mask
from s4m_sb.network.separate import separate
from s4m_sb.pretrained.hparams import load_hparams
from s4m_sb.pretrained.loading import (
    check_inside,
    check_pretrainer,
    load_collected,
    not_loaded,
)
from s4m_sb.pretrained.model_yaml import NUMBERS
from s4m_sb.pretrained.shipped import (
    DEFAULT_MODEL,
    SHIPPED_MODELS,
    shipped_names,
)

logger = get_logger(__name__)

SECONDS_BAR = "{desc}: {bar} {n:.0f} of {total:.0f} s [{remaining} left]"
WEB = ("http:", "https:")
SHORTEST_S = 0.1  # SpeechBrain's encoders fail below their kernel size


class S4MSeparation(Pretrained):
    """A ready-to-use speech separation model.

    Takes models of this package (``s4m export``) and SpeechBrain's own
    (SepFormer, ConvTasNet, ...): whatever has an encoder, a masknet and a
    decoder, and the keys ``sample_rate`` and ``num_spks``.

    Example
    -------
    >>> model = S4MSeparation.from_hparams("s4m-8k")
    >>> model.separate_batch(torch.randn(1, 400)).shape
    torch.Size([1, 400, 2])
    >>> model
    S4MSeparation(num_spks=2, sample_rate=8000, num_parameters=..., device=cpu)
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
        trusted: bool = False,
    ) -> "S4MSeparation":
        """Loads a model.

        It may come from anybody: its YAML may name nothing but networks (see
        `safe_yaml.py` in `pretrained/`), its files lie in its
        own folder (see `loading.py` there), and its parameters are read
        without running what they hold, by ``torch.load(weights_only=True)``,
        which is as safe as the PyTorch that is installed. A model can still
        ask for more time and memory than there is.

        Arguments
        ---------
        source : str or os.PathLike
            The name of a model that ships with the package; a model folder,
            which is read where it is (one here that has such a name:
            ``./s4m-8k``); or what SpeechBrain can fetch, such as
            ``speechbrain/sepformer-wsj02mix`` on the Hugging Face Hub.
        hparams_file : str
            The YAML in it.
        overrides : dict or str, optional
            Changes to the YAML.
        overrides_must_match : bool
            Refuse overrides of keys that the YAML does not have.
        savedir : str or os.PathLike, optional
            Where fetched files are put; by default they stay in the Hub's
            cache, or, from a web address, only until they are loaded. Unused
            for a model on this machine.
        local_strategy : LocalStrategy
            How fetched files get into ``savedir``.
        fetch_config : FetchConfig
            How to fetch.
        run_opts : dict, optional
            SpeechBrain's run options, such as ``{"device": "cuda"}``. With
            ``{"precision": "bf16"}`` all but the state-space layers run in
            bfloat16. ``{"compile": True}`` leaves the mask network as it
            is, which the compiler slowed down.
        freeze_params : bool
            Put the network into evaluation mode, without gradients.
        trusted : bool
            Run whatever the YAML names, such as a network of one's own, and
            read whatever files it names. It can do all that you can do. The
            parameters are read as before, unless the YAML has a hook.

        Returns
        -------
        S4MSeparation
            The model.

        Raises
        ------
        InputError
            If there is no such model, it cannot be fetched, a part of it is
            missing or wrong, its parameters do not fit its network, or it is
            not trusted and does more than to describe a network, or less than
            to load all of it.
        """
        folder = model_folder(source)
        if folder is not None:
            source, savedir = folder, None
        fetch_options = {
            "local_strategy": local_strategy,
            "fetch_config": fetch_config,
        }
        with _place(str(source), savedir) as place:
            yaml = _fetch_yaml(str(source), hparams_file, place, fetch_options)
            if folder is not None and not trusted:
                check_inside(yaml, folder)
            hparams = load_hparams(
                yaml, overrides or {}, overrides_must_match, trusted
            )
            try:
                _check_model(hparams, cls.HPARAMS_NEEDED, cls.MODULES_NEEDED)
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
            load_collected(pretrainer, str(source), **fetch_options)
        return cls(
            modules=modules,
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
            the memory that the network takes, and gives no gradients; see
            `chunking.py`. By default they go through the network as they are.
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
        wanted = mix.requires_grad or any(
            parameter.requires_grad for parameter in self.mods.parameters()
        )
        gradients = torch.is_grad_enabled() and wanted
        with self.inference_ctx, torch.set_grad_enabled(gradients):
            voices = separate(
                mix,
                lengths,
                self.mods.encoder,
                self.mods.masknet,
                self.mods.decoder,
            )
        return voices[:, :T].to(mix.dtype)  # with bf16, the network's is half

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
                # The header of an MP3 file may promise more than there is.
                voices = torch.empty(
                    audio_info(local).num_frames_at(self.hparams.sample_rate),
                    self.hparams.num_spks,
                    dtype=next(self.mods.parameters()).dtype,
                )
                return _at_level(blocks, voices, normalize).to(self.device)
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

    def __repr__(self) -> str:
        num_parameters = sum(p.numel() for p in self.mods.parameters())
        return (
            f"{type(self).__name__}(num_spks={self.hparams.num_spks}, "
            f"sample_rate={self.hparams.sample_rate}, "
            f"num_parameters={num_parameters}, device={self.device})"
        )

    @torch.no_grad()  # a graph over all pieces would not be bounded
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
            unit="s",
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
        The name of a model that ships with the package, else a folder. A
        path object is never taken for such a name.

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
    shipped = shipped_names(SHIPPED_MODELS)
    if source in shipped:
        return SHIPPED_MODELS / source
    folder = Path(source).expanduser()
    name = str(source)
    if name and folder.is_dir():  # no name at all would be the folder here
        return folder
    if name.startswith(WEB):
        return None
    owner, *rest = name.split("/")
    if owner not in ("", ".", "..", "~") and len(rest) == 1 and rest[0]:
        return None
    raise InputError(
        f"{name or repr(name)}: is neither a model folder nor a model of the "
        f"package (which has: {', '.join(shipped) or 'none'})"
    )


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
    model = S4MSeparation.from_hparams(source, trusted=trusted)
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
    whole: torch.Tensor,
    normalize: str,
) -> torch.Tensor:
    """Voices ``[1, T, S]`` from parts of mixture and voices.

    They are put into ``whole``, which may be longer than all parts.
    """
    level = RunningLevel(whole.shape[1])
    num_done = 0
    for mixture, voices in blocks:
        level.add(voices, mixture)
        whole[num_done : num_done + len(voices)] = voices
        num_done += len(voices)
    return whole[:num_done].div_(level.divisors(normalize)).unsqueeze(0)


@contextlib.contextmanager
def _place(
    source: str, savedir: str | os.PathLike | None
) -> Iterator[str | os.PathLike | None]:
    """Where fetched files are put; SpeechBrain needs one for web addresses."""
    if savedir is not None or not source.startswith(WEB):
        yield savedir
        return
    with tempfile.TemporaryDirectory() as temporary:
        try:
            yield temporary
        except InputError as error:  # nobody would find that folder
            message = str(error).replace(temporary, source.rstrip("/"))
            raise InputError(message) from error


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
            f"({first_line(error)})"
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
    is_web = name.startswith(WEB)
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
            f"({first_line(error)})"
        ) from error


def _check_model(
    hparams: dict, keys: Sequence[str], networks: Sequence[str]
) -> None:
    """Refuses what does not describe a model of ``networks``."""
    for key in ("modules", "pretrainer", *keys):
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
    modules = hparams["modules"]
    for key in networks:
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
