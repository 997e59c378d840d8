"""Which recordings to separate, and where their voices go."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s4m_sb.audio.files import audio_info
from s4m_sb.errors import InputError
from s4m_sb.system.files import files_below, remove_left

LIST_SUFFIX = ".txt"
STDIN = "stdin"  # the name of a recording that comes through a pipe
# What libsndfile reads and people name so.
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aif", ".aiff", ".au", ".caf", ".rf64", ".sph", ".w64"),
)
# The header of one that was cut off says what it had before.
SAY_MORE = ("FLAC", "MP3", "MPEG")


@dataclass(frozen=True)
class Recording:
    """An audio file, and the name of its voices without ``_s1.wav``.

    Arguments
    ---------
    path : Path
        The file.
    place : Path
        The voices' names without ``_s1.wav``.
    name : str
        What people call it, if not by its path.
    """

    path: Path
    place: Path
    name: str = ""

    def __str__(self) -> str:
        return self.name or str(self.path)

    def outputs(self, num_spks: int) -> list[Path]:
        """Names the files of the voices.

        Arguments
        ---------
        num_spks : int
            Number of voices.

        Returns
        -------
        list[Path]
            One file a voice.

        Example
        -------
        >>> recording = Recording(Path("in/call.ogg"), Path("out/call"))
        >>> [path.name for path in recording.outputs(2)]
        ['call_s1.wav', 'call_s2.wav']
        """
        return [
            self.place.with_name(f"{self.place.name}_s{number}.wav")
            for number in range(1, num_spks + 1)
        ]

    @property
    def picture(self) -> Path:
        """The file of the spectrograms."""
        return self.place.with_name(f"{self.place.name}.png")

    def is_done(
        self, num_spks: int, sample_rate: int, plot: bool = False
    ) -> bool:
        """Tells whether the voices are there.

        Arguments
        ---------
        num_spks : int
            Number of voices.
        sample_rate : int
            Their sample rate in Hz.
        plot : bool
            Whether the picture counts.

        Returns
        -------
        bool
            True if every voice is as long as the recording, and none is
            older, unless the recording's own time is still to come. MP3 and
            FLAC files, which may have less than their header says, are
            decoded to tell, if the voices are not as long as that.

        Raises
        ------
        InputError
            If the recording is missing, empty or not audio.
        """
        info = audio_info(self.path)
        num_frames = info.num_frames_at(sample_rate)
        recorded_ns = self.path.stat().st_mtime_ns
        if recorded_ns > time.time_ns():  # by a clock that is wrong
            recorded_ns = 0
        wanted = self.outputs(num_spks) + [self.picture] * plot
        for path in wanted:
            if not path.is_file() or path.stat().st_mtime_ns < recorded_ns:
                return False
        try:
            voices = [audio_info(path) for path in self.outputs(num_spks)]
        except InputError:
            return False
        lengths = {voice.num_frames for voice in voices}
        if len(lengths) > 1 or {v.sample_rate for v in voices} != {sample_rate}:
            return False
        length = lengths.pop()
        if length != num_frames and info.format in SAY_MORE:
            info = audio_info(self.path, counted=True)
            num_frames = info.num_frames_at(sample_rate)
        return length == num_frames


def find_recordings(
    sources: Sequence[Path], output: Path, stdin: Path | None = None
) -> list[Recording]:
    """Lists the recordings of files, folders and lists.

    Arguments
    ---------
    sources : sequence of Path
        Audio files; folders, all audio below which counts; text files that
        name one audio file a line, relative to their own folder; lines that
        begin with ``#`` do not count. What comes twice counts once.
    output : Path
        Folder for the voices. Those of a folder's file lie as deep in it as
        the file does in the folder, and those of a list's as the line says,
        unless it is absolute or has ``..``; all others lie in it directly.
    stdin : Path, optional
        A file that came through a pipe; the source ``-`` stands for it.

    Returns
    -------
    list[Recording]
        In the order given, folders sorted. That a file exists is not checked.

    Raises
    ------
    InputError
        If a folder or list is missing or names no audio, or if one file
        would replace another.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "calls"
    >>> folder.mkdir()
    >>> (folder / "1.wav").touch()
    >>> (recording,) = find_recordings([folder], folder.parent / "voices")
    >>> recording.place.relative_to(folder.parent)
    PosixPath('voices/1')
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; --output takes a folder")
    recordings: list[Recording] = []
    for source in sources:
        if stdin is not None and source == Path("-"):
            recordings.append(Recording(stdin, output / STDIN, STDIN))
        elif source.is_dir():
            recordings += _of_folder(source, output)
        elif source.suffix.lower() == LIST_SUFFIX:
            recordings += _of_list(source, output)
        else:
            recordings.append(Recording(source, output / source.stem))
    by_path: dict[str, Recording] = {}
    for recording in recordings:
        by_path.setdefault(os.path.abspath(recording.path), recording)
    recordings = list(by_path.values())
    _check_places(recordings)
    return recordings


def remove_leftovers(recordings: Sequence[Recording], num_spks: int) -> None:
    """Removes halves of voices that killed processes left behind.

    Arguments
    ---------
    recordings : sequence of Recording
        Whose voices they are; what others may be writing stays.
    num_spks : int
        Number of voices.
    """
    wanted = {
        path
        for recording in recordings
        for path in (*recording.outputs(num_spks), recording.picture)
    }
    for folder in {path.parent for path in wanted}:
        remove_left(
            temporary
            for temporary in list(folder.glob(".*.tmp.*"))
            # .<stem>.<drawn>.tmp.<suffix>
            if folder
            / (temporary.name[1:].rsplit(".", 3)[0] + temporary.suffix)
            in wanted
        )


def _of_folder(folder: Path, output: Path) -> Iterable[Recording]:
    if folder.resolve() == output.resolve():
        raise InputError(
            f"{folder}: its recordings and their voices would lie in one "
            "folder; choose another --output"
        )
    voices = output.resolve()
    found = [
        Recording(path, output / path.relative_to(folder).with_suffix(""))
        for path in sorted(files_below(folder, SUFFIXES))
        if voices not in path.resolve().parents
    ]
    if not found:
        raise InputError(
            f"{folder}: holds no audio files ({', '.join(SUFFIXES)})"
        )
    return found


def _of_list(source: Path, output: Path) -> Iterable[Recording]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
        if any("\0" in line for line in lines):
            raise UnicodeError("holds a NUL, as in no name")
    except FileNotFoundError as error:
        raise InputError(f"{source}: no such list of audio files") from error
    except UnicodeError as error:
        raise InputError(
            f"{source}: is no text with one audio file a line"
        ) from error
    names = [line.strip() for line in lines if not line.startswith("#")]
    paths = [Path(name) for name in names if name]
    if not paths:
        raise InputError(f"{source}: names no audio files, one a line")
    return [
        Recording(source.parent / path, output / _place_in_list(path))
        for path in paths
    ]


def _place_in_list(path: Path) -> Path:
    if path.anchor or ".." in path.parts:
        return Path(path.stem)
    return path.with_name(path.stem)


def _check_places(recordings: Sequence[Recording]) -> None:
    """Refuses runs in which one file would replace another."""
    by_place: dict[str, Recording] = {}
    for recording in recordings:
        other = by_place.setdefault(_key(recording.place), recording)
        if other is not recording:
            advice = "separate them into two folders"
            if other.path.with_suffix("") == recording.path.with_suffix(""):
                advice = "they differ in the suffix alone: rename one of them"
            raise InputError(
                f"{other} and {recording} would both write "
                f"{recording.place}_s1.wav; {advice}"
            )
    for recording in recordings:
        path = recording.path
        stem, mark, number = path.stem.rpartition("_s")
        if mark and number.isdigit() and path.suffix == ".wav":
            owner = by_place.get(_key(path.with_name(stem)))
            if owner is not None:
                raise InputError(
                    f"{path} would be replaced by a voice of {owner}; "
                    "choose another --output"
                )


def _key(place: Path) -> str:
    """The same for names that some disks do not tell apart."""
    return os.path.realpath(place).casefold()
