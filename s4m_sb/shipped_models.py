"""The models that ship with the package, and what their cards say of them.

A model ships when its folder lies in ``s4m_sb/pretrained``; nothing names
the models one by one but `DEFAULT_MODEL`. `model_card.py` writes the heads
that are read here.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEFAULT_MODEL = "s4m-8k"
SHIPPED_MODELS = Path(__file__).parent / "pretrained"


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


def shipped_names(folder: Path = SHIPPED_MODELS) -> list[str]:
    """Names the models in a folder.

    Arguments
    ---------
    folder : Path
        Holds the model folders.

    Returns
    -------
    list of str
        Their names, sorted.

    Example
    -------
    >>> DEFAULT_MODEL in shipped_names()
    True
    """
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_"))
    )


def describe_model(folder: str | os.PathLike) -> ModelInfo:
    """Reads what the card of a model says.

    Arguments
    ---------
    folder : str or os.PathLike
        The model folder. Its card may be missing or say nothing.

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
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    head, body = _split(text)
    return ModelInfo(
        name=folder.name,
        summary=_first_sentence(body),
        sample_rate=head.get("sample_rate"),
        num_spks=head.get("num_spks"),
        num_parameters=head.get("num_parameters"),
        num_bytes=sum(
            path.stat().st_size for path in folder.rglob("*") if path.is_file()
        ),
        si_snr_i_db=next(_values(head, "si-snr_i"), None),
        license=head.get("license"),
        card=card,
    )


def _split(card: str) -> tuple[dict[str, Any], str]:
    """The YAML between the first two lines ``---``, and the Markdown."""
    start, _, rest = card.partition("---\n")
    head, end, body = rest.partition("\n---\n")
    if start or not end:
        return {}, card
    try:
        content = yaml.safe_load(head)
    except yaml.YAMLError:
        content = None
    return (content if isinstance(content, dict) else {}), body


def _first_sentence(markdown: str) -> str:
    for paragraph in markdown.split("\n\n"):
        text = " ".join(paragraph.split())
        if text and not text.startswith(("#", "`", "|", "!", "<")):
            return text.split(". ")[0].removesuffix(".") + "."
    return ""


def _values(head: dict[str, Any], metric: str) -> Iterator[float]:
    """Out of the Hub's ``model-index``."""
    for model in head.get("model-index") or []:
        for result in model.get("results") or []:
            for entry in result.get("metrics") or []:
                if entry.get("type") == metric and "value" in entry:
                    yield float(entry["value"])
