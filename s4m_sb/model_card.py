"""The model card: Markdown with the front matter of the Hugging Face Hub."""


def model_card(
    name: str, numbers: dict, results: dict[str, float | str], facts: dict
) -> str:
    """Writes the model card, Markdown with the Hub's front matter.

    Arguments
    ---------
    name : str
        The model's name.
    numbers : dict
        ``sample_rate`` in Hz and ``num_spks``.
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
    ...     {"si_snr_i": 9.5},
    ...     {},
    ... )
    >>> "| si_snr_i | 9.50 |" in card
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
        # The Hub takes an identifier here; other text stands below.
        f"license: {license if license and ' ' not in license else 'other'}",
        "library_name: speechbrain",
        "pipeline_tag: audio-to-audio",
        f"tags: [audio-to-audio, {task}, speechbrain]",
        "---",
        "",
        f"# {name}",
        "",
        f"{what} at {rate} Hz.",
        "",
        "```python",
        "from s4m_sb.inference import S4MSeparation",
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


def _number(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
