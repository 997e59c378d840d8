"""The demo page: record, upload or pick the example, hear the voices.

Above this file: `server.py`, which serves it. Below it: `job.py`,
which does the work.
"""

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio

from s4m_sb.commands.demo.job import separate_recording
from s4m_sb.errors import InputError, one_line
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.pieces import OVERLAP_S, Pieces
from s4m_sb.pretrained.card import describe_model
from s4m_sb.pretrained.fetching import model_folder

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_talkers.wav"
MAX_WAITING = 16  # for their turn; one recording is separated at a time
FORMATS = "WAV, FLAC, Ogg or MP3"
ONLY_UPLOADS = "only uploaded files are taken"

ACCENT = "#0f766e"  # teal 700; white on it has a contrast of 5.5

THEME = gradio.themes.Default(
    primary_hue="teal",
    neutral_hue="slate",
    # None that would be fetched.
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    body_text_color_subdued="*neutral_500",  # its 400 is too pale on white
    button_primary_background_fill=ACCENT,
    button_primary_background_fill_dark=ACCENT,
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
)
CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto; }
.hint, .refused, .done { margin: 0; }
.hint { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.refused, .done { padding: 0.75rem 1rem; border-left: 4px solid; }
.refused { border-color: #b91c1c; background: #b91c1c1a; }
.done { border-color: var(--primary-700); background: #0f766e1a; }
#status { min-height: 5rem; overflow-wrap: anywhere; }
#status .wrap { background: var(--body-background-fill); }
/* Not below what stands on the picture's corners. */
#picture .image-container { padding-top: 2.5rem; background: white; }
"""

HEAD = """
<header>
<h1>Separate voices</h1>
<p>Record or upload several people talking at once, and hear each of them
alone.</p>
</header>
"""
# For screen readers: which player a button belongs to, what the picture is.
NAME_PARTS = """() => {
    for (const player of document.querySelectorAll("[id^=player-]")) {
        player.setAttribute("role", "group");
        player.setAttribute(
            "aria-label",
            player.querySelector("[data-testid=block-label]").innerText.trim()
        );
    }
    for (const picture of document.querySelectorAll("#picture img"))
        picture.alt = "Spectrograms of the mixture and of each voice";
}"""
WAITING = (
    "<p class='hint'>The mixture, its voices and their spectrograms will "
    "appear here.</p>"
)

WAVEFORM = gradio.WaveformOptions(
    waveform_color="#94a3b8", waveform_progress_color=ACCENT
)


@dataclass(frozen=True)
class Choice:
    """A model to choose, once in memory for all who use the page."""

    name: str
    summary: str
    model: S4MSeparation


def load_choice(source: str, device: str = "cpu") -> Choice:
    """Loads a model for the page.

    Arguments
    ---------
    source : str
        As for `S4MSeparation.from_hparams`.
    device : str
        Where to compute.

    Returns
    -------
    Choice
        Its name tells visitors nothing of the folders of this machine.

    Raises
    ------
    InputError
        If it cannot be loaded.

    Example
    -------
    >>> load_choice("s4m-8k").name
    's4m-8k'
    """
    model = S4MSeparation.from_hparams(source, run_opts={"device": device})
    folder = model_folder(source)
    if folder is None:
        return Choice(source, "", model)
    folder = folder.resolve()
    return Choice(folder.name, describe_model(folder).summary, model)


def make_page(
    choices: Sequence[Choice],
    folder: str | os.PathLike,
    max_seconds: float,
    max_megabytes: float,
) -> gradio.Blocks:
    """Makes the page.

    Arguments
    ---------
    choices : sequence of Choice
        The models to choose from, the first one by default.
    folder : str or os.PathLike
        Where results are put.
    max_seconds : float
        The longest recording that is taken.
    max_megabytes : float
        The largest file, in 2^20 bytes, for the text; the server sees to
        it.

    Returns
    -------
    gradio.Blocks
        To be served.
    """
    num_players = max(choice.model.hparams.num_spks for choice in choices)
    bar_of_the_separator = gradio.Progress(track_tqdm=True)

    def separate(
        path, number, chunk_s, overlap_s, progress=bar_of_the_separator
    ):
        choice = choices[number]
        try:
            if not path:
                raise InputError("First record, upload or pick a recording.")
            if not _may_be_read(path):  # "is_stream" goes past the hook below
                raise InputError(f"{path}: {ONLY_UPLOADS}")
            mixture, outcome = separate_recording(
                path,
                choice.model,
                folder,
                Pieces(chunk_s, overlap_s),
                max_seconds,
            )
        except InputError as error:
            message = one_line(error)
            if path:
                message = message.replace(str(path), Path(path).name)
            return _refused(message, num_players)
        return _shown(choice.name, mixture, outcome, num_players)

    with gradio.Blocks(
        title="S4M: separate voices",
        analytics_enabled=False,
    ) as page:
        gradio.HTML(HEAD)
        with gradio.Row():
            with gradio.Column(scale=2, min_width=320):
                recording = gradio.Audio(
                    label="Recording of several people talking at once",
                    sources=["upload", "microphone"],
                    type="filepath",
                    editable=False,
                    buttons=[],
                    waveform_options=WAVEFORM,
                    elem_id="recording",
                )
                gradio.HTML(
                    f"<p class='hint'>{FORMATS}, up to "
                    f"{max_seconds / 60:.3g} minutes and {max_megabytes:g} "
                    "MB. Recordings stay on the machine that runs this page, "
                    "which deletes them after an hour.</p>"
                )
                example = gradio.Button(
                    "Use the example: two talkers, 7 seconds", size="sm"
                )
                number = gradio.Radio(
                    [(_label(c), number) for number, c in enumerate(choices)],
                    value=0,
                    label="Model",
                )
                with gradio.Accordion("Long recordings", open=False):
                    chunk = gradio.Slider(
                        5,
                        60,
                        value=Pieces.chunk_s,
                        step=1,
                        label="Length of a piece (seconds)",
                        info="Longer recordings are separated piece by piece.",
                    )
                    overlap = gradio.Slider(
                        1,
                        15,
                        value=OVERLAP_S,
                        step=0.5,
                        label="Overlap of pieces (seconds)",
                        info="By it the voices of all pieces are matched.",
                    )
                start = gradio.Button(
                    "Separate the voices", variant="primary", elem_id="start"
                )
            with gradio.Column(scale=3, min_width=320):
                status = gradio.HTML(WAITING, elem_id="status")
                with gradio.Column(visible=False) as results:
                    players = [
                        gradio.Audio(
                            label=label,
                            interactive=False,
                            type="filepath",
                            buttons=["download"],
                            waveform_options=WAVEFORM,
                            elem_id=f"player-{number}",
                        )
                        for number, label in enumerate(
                            [
                                "Mixture",
                                *(f"Voice {n + 1}" for n in range(num_players)),
                            ]
                        )
                    ]
                    picture = gradio.Image(
                        label="Spectrograms",
                        interactive=False,
                        type="filepath",
                        buttons=["download", "fullscreen"],
                        elem_id="picture",
                    )
        example.click(
            lambda: str(EXAMPLE), None, recording, api_visibility="private"
        )
        start.click(
            separate,
            [recording, number, chunk, overlap],
            [status, results, *players, picture],
            api_visibility="private",
            show_progress_on=status,
            concurrency_limit=1,
        ).then(None, js=NAME_PARTS, api_visibility="private")
    for block in page.blocks.values():  # a request may put files anywhere
        _take_uploads_only(block)
    page.queue(max_size=MAX_WAITING)
    return page


def _take_uploads_only(block: gradio.blocks.Block) -> None:
    """Keeps a part of the page from other files, and from web addresses.

    The page sends what it has uploaded, but a request made by hand may name
    any file of this machine, or an address, which Gradio would read: it checks
    the paths of pages that are launched, not of those that are mounted.
    """
    to_cache = block.async_move_resource_to_block_cache

    async def upload_to_cache(path):
        if path is not None and not _may_be_read(path):
            raise gradio.Error(ONLY_UPLOADS, print_exception=False)
        return await to_cache(path)

    # Not in a class of its own, for which Gradio writes a file beside this.
    vars(block)["async_move_resource_to_block_cache"] = upload_to_cache


def _may_be_read(path: str | os.PathLike) -> bool:
    """Whether it is the example, or lies where uploads and results do."""
    try:
        real = Path(path).resolve()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False
    uploads = Path(gradio.utils.get_upload_folder()).resolve()
    return real == EXAMPLE.resolve() or real.is_relative_to(uploads)


def _label(choice):
    return ": ".join(filter(None, [choice.name, choice.summary]))


def _shown(model_name, mixture, outcome, num_players):
    """The values of the page's outputs after a separation."""
    text = (
        f"{outcome.recording.path.name}: {len(outcome.voices)} voices in "
        f"{outcome.duration_s:.1f} s, by {model_name}."
    )
    if outcome.truncated:
        text += " The recording was cut off there."
    voices = [
        gradio.update(value=str(path), visible=True) for path in outcome.voices
    ]
    missing = num_players - len(voices)
    return [
        f"<p role='status' class='done'>{html.escape(text)}</p>",
        gradio.update(visible=True),
        str(mixture),
        *voices,
        *[gradio.update(value=None, visible=False)] * missing,
        str(outcome.picture),
    ]


def _refused(message, num_players):
    """The values of the page's outputs after an error."""
    return [
        f"<p role='alert' class='refused'>{html.escape(message)}</p>",
        gradio.update(visible=False),
        *[None] * (num_players + 2),
    ]
