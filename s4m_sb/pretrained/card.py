"""The model card: Markdown with the front matter of the Hugging Face Hub.

`shipped_models.py` reads the front matter for ``s4m models``.
"""

from typing import Any

import yaml

# The keys of a test's summary, and how people write them.
METRICS = {
    "si-snr_i": "SI-SNRi (dB)",
    "sdr_i": "SDRi (dB)",
    "pesq": "PESQ",
    "stoi": "STOI",
}


def model_card(
    name: str, numbers: dict, results: dict[str, float | str], facts: dict
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
        What else is known: any of "Data", "Command", "License".

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
            _head(name, task, license, numbers, results), sort_keys=False
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
    return "\n".join(lines) + "\n"


def _head(
    name: str,
    task: str,
    license: str,
    numbers: dict,
    results: dict[str, float | str],
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
        {"type": key, "name": METRICS[key], "value": round(float(value), 4)}
        for key, value in results.items()
        if key in METRICS and not isinstance(value, str)
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
