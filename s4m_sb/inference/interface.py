"""A trained model in three lines: `S4MSeparation`.

The shapes are those of SpeechBrain's ``SepformerSeparation``, whose models it
also loads, so that one import replaces the other.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.autocast import AMPConfig, TorchAutocast
from speechbrain.utils.fetching import FetchConfig, LocalStrategy
from tqdm import tqdm

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.stream import stream_audio
from s4m_sb.audio.whole import CutOffWarning, is_whole
from s4m_sb.errors import InputError
from s4m_sb.inference.chunking import separate_in_pieces
from s4m_sb.inference.levels import DEFAULT, Level, bring_to_level
from s4m_sb.inference.pieces import Pieces
from s4m_sb.inference.voice_files import write_voices
from s4m_sb.network.lengths import num_samples, sample_mask
from s4m_sb.network.separate import separate
from s4m_sb.pretrained.fetching import fetched_audio
from s4m_sb.pretrained.model import YAML, load_model
from s4m_sb.pretrained.model_yaml import MODULES, NUMBERS
from s4m_sb.pretrained.shipped import DEFAULT_MODEL

SECONDS_BAR = "{desc}: {bar} {n:.0f} of {total:.0f} s [{remaining} left]"
SHORTEST_S = 0.1  # SpeechBrain's encoders fail below their kernel size

Samples = torch.Tensor | np.ndarray
# Mixture [n] and voices [n, S] of a recording, part by part.
Blocks = Iterator[tuple[torch.Tensor, torch.Tensor]]


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

    HPARAMS_NEEDED = list(NUMBERS)
    MODULES_NEEDED = list(MODULES)

    @classmethod
    def from_hparams(
        cls,
        source: str | os.PathLike = DEFAULT_MODEL,
        hparams_file: str = YAML,
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
        which is as safe as the PyTorch that is installed. What it may ask for
        is bounded, but it can still be slow.

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
        hparams = load_model(
            source,
            hparams_file,
            overrides,
            overrides_must_match,
            savedir,
            trusted,
            local_strategy=local_strategy,
            fetch_config=fetch_config,
        )
        return cls(
            modules=hparams["modules"],
            hparams=hparams,
            run_opts=run_opts,
            freeze_params=freeze_params,
        )

    def separate_batch(
        self,
        mix: Samples,
        lengths: Samples | None = None,
        pieces: Pieces | None = None,
        chunk_s: float | None = None,
    ) -> torch.Tensor:
        """Separates mixtures, as the network gives the voices.

        Arguments
        ---------
        mix : torch.Tensor or np.ndarray
            Mixtures at the model's sample rate, ``[B, T]``, or a single one,
            ``[T]``; any length from one sample, any level, any mean: they are
            brought to one level before the network, without their means, and
            their voices back behind it.
        lengths : torch.Tensor or np.ndarray, optional
            Relative lengths, 0 to 1, ``[B]``: what lies behind is padding. It
            does not change the rest, and its voices are zero.
        pieces : Pieces, optional
            How to cut longer mixtures, which bounds the memory that the
            network takes, and gives no gradients; see `chunking.py`. By
            default they go through the network as they are.
        chunk_s : float, optional
            Short for ``pieces=Pieces(chunk_s)``.

        Returns
        -------
        torch.Tensor
            Voices, ``[B, T, S]``.

        Raises
        ------
        InputError
            If ``mix`` has another shape, no samples, integers, or NaN or
            infinite samples, or ``lengths`` are something else.
        """
        mixture, parts = self._checked(mix, lengths)
        T = mixture.shape[1]
        mask = None
        if parts is not None:
            mask = sample_mask(num_samples(parts, T), T)
            mixture = mixture.masked_fill(~mask, 0)
        if not mixture.isfinite().all():
            raise InputError("mix holds NaN or infinite samples")
        pieces = _pieces(pieces, chunk_s)
        if len(mixture) == 0:
            return mixture.new_zeros(0, T, self.hparams.num_spks)
        if pieces is not None:
            return self._separate_items(mixture, parts, pieces)
        mixture, scale = bring_to_level(mixture, mask)
        shortest = round(SHORTEST_S * self.hparams.sample_rate)
        if T < shortest:
            mixture = F.pad(mixture, (0, shortest - T))
            full = mixture.new_ones(len(mixture)) if parts is None else parts
            parts = full * T / shortest
        wanted = mixture.requires_grad or any(
            parameter.requires_grad for parameter in self.mods.parameters()
        )
        gradients = torch.is_grad_enabled() and wanted
        with self.inference_ctx, torch.set_grad_enabled(gradients):
            voices = separate(
                mixture,
                parts,
                self.mods.encoder,
                self.mods.masknet,
                self.mods.decoder,
            )
        # With bf16, the network's are half.
        voices = voices[:, :T].to(mixture.dtype) * scale
        if not voices.isfinite().all():
            raise InputError("the voices are NaN, or too loud to be numbers")
        return voices

    @torch.no_grad()
    def separate_file(
        self,
        path: str | os.PathLike | BinaryIO,
        savedir: str | os.PathLike | None = None,
        normalize: str = DEFAULT,
        pieces: Pieces | None = None,
        progress: bool = False,
        chunk_s: float | None = None,
    ) -> torch.Tensor:
        """Separates the voices of an audio file.

        Any sample rate and format that libsndfile reads; several channels
        are averaged.

        Arguments
        ---------
        path : str or os.PathLike or BinaryIO
            A file on this machine, a web address, or a file on the Hugging
            Face Hub (``owner/repository/file.wav``); or an open file, read
            from where it stands.
        savedir : str or os.PathLike, optional
            Where a fetched file is put. A file of the same name there is
            replaced, never used in its place.
        normalize : str
            The level of the voices; see `levels.normalize_voices`.
        pieces : Pieces, optional
            Read and separate the file in such pieces, so that only the voices
            grow with its length (4 bytes a sample and voice);
            `separate_to_files` keeps not even those. By default it goes
            through the network as it is.
        progress : bool
            Show a progress bar, if the file is separated in pieces.
        chunk_s : float, optional
            Short for ``pieces=Pieces(chunk_s)``.

        Returns
        -------
        torch.Tensor
            Voices at the model's sample rate, ``[1, T, S]``.

        Raises
        ------
        InputError
            If the file is missing, empty, not audio, or has no samples or
            NaN ones, or if ``normalize`` is unknown. One that was cut off is
            separated as far as it goes, with a `CutOffWarning`.
        """
        pieces = _pieces(pieces, chunk_s)
        level = Level(self.hparams.num_spks, normalize)
        num_done = 0
        with fetched_audio(path, savedir) as local:
            # The header of an MP3 file may promise more than there is.
            whole = torch.empty(
                audio_info(local).num_frames_at(self.hparams.sample_rate),
                self.hparams.num_spks,
                dtype=next(self.mods.parameters()).dtype,
            )
            for mixture, voices in self._blocks(local, pieces, progress):
                level.add(voices, mixture)
                whole[num_done : num_done + len(voices)] = voices
                num_done += len(voices)
        voices = whole[:num_done].div_(level.divisors())
        return voices.unsqueeze(0).to(self.device)

    @torch.no_grad()
    def separate_to_files(
        self,
        path: str | os.PathLike | BinaryIO,
        outputs: Sequence[str | os.PathLike],
        savedir: str | os.PathLike | None = None,
        normalize: str = DEFAULT,
        pieces: Pieces | None = Pieces(),  # noqa: B008  (frozen)
        progress: bool = False,
    ) -> None:
        """Separates an audio file of any length in bounded memory.

        From disk to disk: what `separate_file` gives, as 32-bit float WAV
        files at the model's sample rate. They appear when all of them are
        whole, or not at all.

        Arguments
        ---------
        path, savedir, normalize, progress
            As in `separate_file`.
        outputs : sequence of str or os.PathLike
            The files to write, one a voice.
        pieces : Pieces, optional
            As there; None separates the file as it is.

        Raises
        ------
        InputError
            As there, or if there are more or fewer ``outputs`` than voices.
        OSError
            If the voices cannot be written, as on a full disk.
        """
        num_spks = self.hparams.num_spks
        if len(outputs) != num_spks:
            raise InputError(
                f"{len(outputs)} outputs for the {num_spks} voices of the model"
            )
        with fetched_audio(path, savedir) as local:
            write_voices(
                self._blocks(local, pieces, progress),
                outputs,
                self.hparams.sample_rate,
                normalize,
            )

    def forward(
        self, mix: Samples, lengths: Samples | None = None
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

    def _apply(self, fn, recurse=True):
        """Moves the model, as ``to`` does, and notes where it is."""
        super()._apply(fn, recurse)
        self.device = str(next(self.mods.parameters()).device)
        self.device_type = self.device.split(":")[0]
        self.inference_ctx = TorchAutocast(
            device_type=self.device_type,
            dtype=AMPConfig.from_name(self.precision).dtype,
        )
        return self

    def _checked(
        self, mix: Samples, lengths: Samples | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mixtures ``[B, T]`` and their lengths ``[B]``, on the device."""
        dtype = next(self.mods.parameters()).dtype
        if dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"the model's parameters are {dtype}, in which state-space "
                "layers cannot compute; for half precision load it with "
                'run_opts={"precision": "bf16"}'
            )
        mix = _tensor("mix", mix)
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
        mix = mix.to(self.device, dtype)
        if lengths is None:
            return mix, None
        lengths = _tensor("lengths", lengths)
        if lengths.shape != mix.shape[:1]:
            raise InputError(
                f"lengths {tuple(lengths.shape)} of {len(mix)} mixtures: one "
                "each is needed"
            )
        num_samples(lengths.cpu(), mix.shape[1])  # or they are refused
        return mix, lengths.to(self.device)

    @torch.no_grad()  # a graph over all pieces would not be bounded
    def _separate_items(
        self, mix: torch.Tensor, lengths: torch.Tensor | None, pieces: Pieces
    ) -> torch.Tensor:
        """Voices ``[B, T, S]``, item by item in pieces."""
        T = mix.shape[1]
        counts = [T] * len(mix)
        if lengths is not None:
            counts = num_samples(lengths, T).tolist()
        items = []
        for item, count in zip(mix, counts, strict=True):
            blocks = separate_in_pieces(
                [item[:count]],
                self.separate_batch,
                pieces,
                self.hparams.sample_rate,
                self.device,
            )
            voices = torch.cat([voices for _, voices in blocks])  # [n, S]
            items.append(F.pad(voices, (0, 0, 0, T - count)))
        return torch.stack(items)

    def _blocks(
        self, path: str | os.PathLike, pieces: Pieces | None, progress: bool
    ) -> Blocks:
        """Mixture and voices of a file, all at once if it is not cut."""

        def separate_there(mix: torch.Tensor) -> torch.Tensor:
            return self.separate_batch(mix).cpu()

        sample_rate = self.hparams.sample_rate
        if pieces is None:
            mixture, _ = read_audio(path, sample_rate, partial=True)  # [T]
            yield mixture, separate_there(mixture)[0]
            _warn_if_cut_off(path, len(mixture) / sample_rate)
            return
        info = audio_info(path)
        num_done = 0
        with tqdm(
            total=info.num_frames / info.sample_rate,
            desc=os.path.basename(path),
            unit="s",
            bar_format=SECONDS_BAR,
            leave=False,
            disable=not progress,
        ) as bar:
            for mixture, voices in separate_in_pieces(
                stream_audio(path, sample_rate, partial=True),
                separate_there,
                pieces,
                sample_rate,
                self.device,
            ):
                yield mixture, voices
                num_done += len(mixture)
                bar.update(len(mixture) / sample_rate)
        _warn_if_cut_off(path, num_done / sample_rate)


def _warn_if_cut_off(path: str | os.PathLike, seconds: float) -> None:
    if not is_whole(path, seconds):
        warnings.warn(
            f"{path}: was cut off; its first {seconds:.3f} s were separated",
            CutOffWarning,
            stacklevel=3,
        )


def _tensor(name: str, values: Samples) -> torch.Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} is a {type(values).__name__}; give a tensor or an array"
        ) from error


def _pieces(pieces: Pieces | None, chunk_s: float | None) -> Pieces | None:
    """How to cut, if at all, said in full or in short."""
    if chunk_s is None:
        return pieces
    if pieces is not None:
        raise InputError("give pieces or chunk_s, not both")
    return Pieces(chunk_s)
