"""``s4m models``: the models that ship with the package."""

import argparse
import json
import sys

from s4m_sb.errors import InputError

DESCRIPTION = """\
List the models that ship with the package.

Any of the names can be given as --model to `s4m separate` and as the source
of S4MSeparation.from_hparams; a folder here that has such a name is ./NAME.
The card of a model says what it was trained on, how it was measured, and what
it is bad at."""

JSON_KEYS = """\
--json prints one JSON object a line for each model:
  name            what --model takes
  default         true for the model that is used without --model
  summary         what it is for
  sample_rate     in Hz
  num_spks        voices that it gives
  num_parameters  of its networks
  num_bytes       of its folder
  si_snr_i_db     SI-SNRi on the data that the card names
  license         of the weights
  card            path of the card
Values that a card does not say are null.
"""

EXAMPLES = """\
examples:
  s4m models
  s4m models --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m models``."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON, see below"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints the models.

    Raises
    ------
    InputError
        If standard output is closed.
    """
    if sys.stdout is None:
        raise InputError("stdout is closed; the list goes there")
    from s4m_sb.pretrained.card import ModelInfo, describe_model
    from s4m_sb.pretrained.shipped import (
        DEFAULT_MODEL,
        SHIPPED_MODELS,
        shipped_names,
    )

    def as_json(model: ModelInfo) -> str:
        known = vars(model) | {"card": str(model.card)}
        name = known.pop("name")
        default = name == DEFAULT_MODEL
        return json.dumps({"name": name, "default": default} | known)

    def as_text(model: ModelInfo) -> str:
        title = model.name
        if model.name == DEFAULT_MODEL:
            title += " (default)"
        facts = [
            (model.num_spks, "{} voice" + "s" * (model.num_spks != 1)),
            (model.sample_rate, "{} Hz"),
            (model.num_parameters, "{:,} parameters"),
            (model.num_bytes / 1e6, "{:.1f} MB"),
            (model.si_snr_i_db, "{:.2f} dB SI-SNRi"),
        ]
        said = [text.format(fact) for fact, text in facts if fact is not None]
        lines = [title, model.summary, ", ".join(said), str(model.card)]
        return "\n  ".join(line for line in lines if line)

    models = [describe_model(SHIPPED_MODELS / name) for name in shipped_names()]
    for model in models:
        print(as_json(model) if arguments.json else as_text(model))
