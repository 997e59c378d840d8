"""The models that ship with the package, and what their cards say of them.

A model ships when its folder lies in ``s4m_sb/pretrained``; nothing names
the models one by one but `DEFAULT_MODEL`. `card.py` writes the heads
that are read here.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from s4m_sb.system.folders import is_inside

DEFAULT_MODEL = "s4m-8k"
SHIPPED_MODELS = Path(__file__).parent / "shipped"


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
        return card.read_text(encoding="utf-8")
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
