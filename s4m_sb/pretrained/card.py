"""The model card: Markdown with the front matter of the Hugging Face Hub.

Written for a model that is exported, read for ``s4m models``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from s4m_sb.system.files import is_inside

MOST_CHARACTERS = 10**6  # that are read of a card


CITING = """\
Please cite S4M (Chen et al., "A Neural State-Space Modeling Approach to
Efficient Speech Separation", Interspeech 2023,
https://arxiv.org/abs/2305.16932) and SpeechBrain (Ravanelli et al.,
"Open-Source Conversational AI with SpeechBrain 1.0", 2024,
https://arxiv.org/abs/2407.00463)."""


@dataclass(frozen=True)
class ModelInfo:
    """What the card of a model says; None where it does not.

    Arguments
    ---------
    name : str
        That of its folder.
    summary : str
        The first sentence of the card: what the model is for.
    sample_rate : int or None
        In Hz.
    num_spks : int or None
        Voices that it gives.
    num_parameters : int or None
        Of all its networks.
    num_bytes : int
        Of all files in its folder.
    si_snr_i_db : float or None
        SI-SNRi on the data that the card names.
    license : str or None
        Identifier of the Hugging Face Hub, such as apache-2.0.
    card : Path
        The card.
    """

    name: str
    summary: str
    sample_rate: int | None
    num_spks: int | None
    num_parameters: int | None
    num_bytes: int
    si_snr_i_db: float | None
    license: str | None
    card: Path


def model_card(
    name: str,
    numbers: dict,
    results: dict[str, float | str],
    facts: dict,
    titles: dict[str, str],
    alone: Sequence[str] = (),
) -> str:
    """Writes the model card, Markdown with the Hub's front matter.

    Arguments
    ---------
    name : str
        The model's name.
    numbers : dict
        ``sample_rate`` in Hz, ``num_spks`` and, if known,
        ``num_parameters``; they stand in the head of the card.
    results : dict
        What was measured: numbers for a table, text for a list.
    facts : dict
        What else is known: any of "Data", "Command", "Training time",
        "License".
    titles : dict
        Which of the results are scores for the Hub, and what it calls them;
        `s4m_sb.metrics.card_titles`.
    alone : sequence of str
        Python that separates with SpeechBrain alone, if that can be done.

    Returns
    -------
    str
        The card.

    Example
    -------
    >>> card = model_card(
    ...     "s4m-8k",
    ...     {"sample_rate": 8000, "num_spks": 2},
    ...     {"si-snr_i": 9.5},
    ...     {},
    ...     {"si-snr_i": "SI-SNRi (dB)"},
    ... )
    >>> "| si-snr_i | 9.50 |" in card
    True
    """
    rate, num_spks = numbers["sample_rate"], numbers["num_spks"]
    task, what = "speech-separation", f"Separates {num_spks} voices"
    if num_spks == 1:
        task, what = "speech-enhancement", "Frees one voice from noise"
    license = facts.get("License", "")
    measured = {k: v for k, v in results.items() if not isinstance(v, str)}
    said = {k: v for k, v in results.items() if isinstance(v, str)} | facts
    said.setdefault("License", "not stated")
    lines = [
        "---",
        yaml.safe_dump(
            _head(name, task, license, numbers, results, titles),
            sort_keys=False,
        )
        + "---",
        "",
        f"# {name}",
        "",
        f"{what} at {rate} Hz.",
        "",
        "```python",
        "from s4m_sb.inference.interface import S4MSeparation",
        "",
        'model = S4MSeparation.from_hparams("PATH_OF_THIS_FOLDER")',
        'voices = model.separate_file("mixture.wav")  # [1, T, S]',
        "```",
        "",
        "```sh",
        "s4m separate mixture.wav --output separated "
        "--model PATH_OF_THIS_FOLDER",
        "```",
        "",
    ]
    if measured:
        lines += ["| result | value |", "|---|---|"]
        lines += [f"| {k} | {_number(v)} |" for k, v in measured.items()]
        lines.append("")
    lines += [f"- {key}: {value}" for key, value in said.items()]
    if alone:
        lines += ["", "Without s4m_sb, SpeechBrain loads it as well:", ""]
        lines += ["```python", *alone, "```", "", CITING]
    return "\n".join(lines) + "\n"


def _head(
    name: str,
    task: str,
    license: str,
    numbers: dict,
    results: dict[str, float | str],
    titles: dict[str, str],
) -> dict[str, Any]:
    """The Hub's keys, and the numbers of the model."""
    head: dict[str, Any] = {
        # The Hub takes an identifier here; other text stands in the card.
        "license": license if license and " " not in license else "other",
        "library_name": "speechbrain",
        "pipeline_tag": "audio-to-audio",
        "tags": ["audio-to-audio", task, "speechbrain"],
        **numbers,
    }
    scores = [
        {"type": key, "name": titles[key], "value": round(float(value), 4)}
        for key, value in results.items()
        if key in titles and not isinstance(value, str)
    ]
    if scores:
        dataset_name = str(results.get("dataset", "test set of the recipe"))
        dataset = {"type": "mixtures", "name": dataset_name}
        result = {
            "task": {"type": "audio-to-audio", "name": task},
            "dataset": dataset,
            "metrics": scores,
        }
        head["metrics"] = [score["type"] for score in scores]
        head["model-index"] = [{"name": name, "results": [result]}]
    return head


def _number(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def describe_model(folder: str | os.PathLike) -> ModelInfo:
    """Reads what the card of a model says.

    Arguments
    ---------
    folder : str or os.PathLike
        The model folder. Its card may be missing, say nothing, or say what
        nobody can read, be it a link to a file that is not the model's.

    Returns
    -------
    ModelInfo
        What is known.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "mine"
    >>> folder.mkdir()
    >>> _ = (folder / "README.md").write_text('''---
    ... sample_rate: 8000
    ... ---
    ... # mine
    ...
    ... Separates two
    ... talkers. It is small.
    ... ''')
    >>> model = describe_model(folder)
    >>> model.name, model.summary, model.sample_rate, model.num_spks
    ('mine', 'Separates two talkers.', 8000, None)
    """
    folder = Path(folder)
    card = folder / "README.md"
    head, body = _split(_read(card, folder))
    return ModelInfo(
        name=folder.name,
        summary=_first_sentence(body),
        sample_rate=_said(head, "sample_rate", int),
        num_spks=_said(head, "num_spks", int),
        num_parameters=_said(head, "num_parameters", int),
        num_bytes=sum(
            path.stat().st_size for path in folder.rglob("*") if path.is_file()
        ),
        si_snr_i_db=_score(head, "si-snr_i"),
        license=_said(head, "license", str),
        card=card,
    )


def _read(card: Path, folder: Path) -> str:
    if not card.is_file() or not is_inside(card, folder):
        return ""
    try:
        with open(card, encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS)
    except (OSError, UnicodeDecodeError):
        return ""


def _split(card: str) -> tuple[dict[str, Any], str]:
    """The YAML between the first two lines ``---``, and the Markdown."""
    start, _, rest = card.partition("---\n")
    head, end, body = rest.partition("\n---\n")
    if start or not end:
        return {}, card
    try:
        content = yaml.safe_load(head)
    except Exception:  # PyYAML's own, and what Python says to !!bool maybe
        content = None
    return (content if isinstance(content, dict) else {}), body


def _first_sentence(markdown: str) -> str:
    for paragraph in markdown.split("\n\n"):
        text = " ".join(paragraph.split())
        if text and not text.startswith(("#", "`", "|", "!", "<")):
            return text.split(". ")[0].removesuffix(".") + "."
    return ""


def _said(head: dict[str, Any], key: str, *types: type) -> Any:
    """The value of a key, None if it has none of these types."""
    value = head.get(key)
    return value if type(value) in types else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    """Those in a list; none of what is no list."""
    parts = value if isinstance(value, list) else []
    return [part for part in parts if isinstance(part, dict)]


def _score(head: dict[str, Any], metric: str) -> float | None:
    """The first of this metric in the Hub's ``model-index``."""
    for model in _dicts(head.get("model-index")):
        for result in _dicts(model.get("results")):
            for entry in _dicts(result.get("metrics")):
                value = _said(entry, "value", float, int)
                if entry.get("type") == metric and value is not None:
                    return value
    return None
