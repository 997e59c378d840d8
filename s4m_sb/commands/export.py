"""``s4m export``: a model folder out of a training run."""

import argparse
from pathlib import Path

DESCRIPTION = """\
Turn a training run into a model folder.

Takes the checkpoint with the best validation score and writes
hyperparams.yaml, encoder.ckpt, masknet.ckpt, decoder.ckpt and a model card,
README.md, into a new folder: what `s4m separate --model`, S4MSeparation and
the Hugging Face Hub expect. Runs of SpeechBrain's own separation recipe, such
as ConvTasNet or SepFormer, can be exported too."""

EXAMPLES = """\
examples:
  s4m export results/s4m-tiny/1234 my_model
  s4m export results/s4m-tiny/1234 my_model --license apache-2.0 \\
      --data "WSJ0-2mix" --command "python train.py hparams/s4m-tiny.yaml"
  s4m export results/s4m-tiny/1234 for_the_hub --speechbrain
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``s4m export``."""
    parser.add_argument(
        "results_dir",
        metavar="RESULTS_DIR",
        type=Path,
        help="the run's output_folder",
    )
    parser.add_argument(
        "out_dir", metavar="OUT_DIR", type=Path, help="the folder to make"
    )
    parser.add_argument(
        "--name", help="the model's name (default: that of OUT_DIR)"
    )
    parser.add_argument(
        "--data", metavar="TEXT", help="for the card: what it was trained on"
    )
    parser.add_argument(
        "--command",
        dest="training_command",
        metavar="TEXT",
        help="for the card: how it was trained",
    )
    parser.add_argument(
        "--time",
        metavar="TEXT",
        help="for the card: how long training took, and on what",
    )
    parser.add_argument(
        "--license",
        metavar="TEXT",
        help="for the card: its licence, such as apache-2.0",
    )
    parser.add_argument(
        "--card",
        metavar="FILE",
        type=Path,
        help="use this Markdown file as the card",
    )
    parser.add_argument(
        "--speechbrain",
        action="store_true",
        help="make a folder that SpeechBrain can load without this package, "
        "which can load it as well",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace OUT_DIR if it is a model folder",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run whatever code the run's YAML names, such as a network of "
        "your own; only for runs of people you trust (default: only the "
        "networks of this package, SpeechBrain and PyTorch are built)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs ``s4m export``.

    Raises
    ------
    InputError
        As `export_model`.
    """
    from s4m_sb.training.export import export_model

    out_dir = export_model(
        arguments.results_dir,
        arguments.out_dir,
        name=arguments.name,
        card=arguments.card,
        data=arguments.data,
        license=arguments.license,
        command=arguments.training_command,
        time=arguments.time,
        force=arguments.force,
        trusted=arguments.trust,
        speechbrain=arguments.speechbrain,
    )
    print(f"{arguments.results_dir} -> {out_dir}")
