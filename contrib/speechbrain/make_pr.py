"""Makes the pull request for SpeechBrain in a checkout of it.

    git clone https://github.com/speechbrain/speechbrain
    python contrib/speechbrain/make_pr.py speechbrain

leaves a branch with one commit: the network, its tests, the YAMLs of the
recipes, their rows in `tests/recipes` and their lines in the READMEs. The
YAMLs are those of this repository, with the keys, the loss and the decoder of
SpeechBrain. Nothing but Python and Git is needed.
"""

import argparse
import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

KIT = Path(__file__).resolve().parent
RECIPES = KIT.parents[1] / "recipes"
PAPER = "https://arxiv.org/abs/2305.16932"

WSJ0MIX = "recipes/WSJ0Mix/separation"
WHAM = "recipes/WHAMandWHAMR/separation"
# The YAMLs, and SpeechBrain's YAML whose row in `tests/recipes` is taken over.
YAMLS = {
    f"{WSJ0MIX}/hparams/s4m.yaml": "sepformer.yaml",
    f"{WSJ0MIX}/hparams/s4m-tiny.yaml": "sepformer.yaml",
    f"{WHAM}/hparams/s4m-wham.yaml": "sepformer-wham.yaml",
    f"{WHAM}/hparams/s4m-whamr.yaml": "sepformer-whamr.yaml",
}
SHRUNK = "--d_model=16 --d_hidden=32 --num_repeats=2"

SPEECHBRAINS = "speechbrain.lobes.models.s4m."

# Keys that SpeechBrain's train.py does not read.
DROPPED = set(
    """
    version dynamic_mixing_opts pretrained_model skip_nonfinite_grads ema_decay
    ckpt_interval_minutes test_metrics use_tensorboard kernel dataset mixture
    target reverb_params noise_folder_dm rooms_folder num_rooms rooms_seed
    """.split()
)

DYNAMIC = """\
# The path of wsj0/si_tr_s, only needed if dynamic mixing is used. Unless the
# path contains "processed", the files are converted to sample_rate first.
base_folder_dm: /yourpath/wsj0-processed/si_tr_s/
"""
MODULES = {
    "Encoder": """\
Encoder: !new:speechbrain.lobes.models.s4m.Encoder
    num_filters: !ref <num_filters>
    kernel_size: !ref <kernel_size>
    stride: !ref <kernel_stride>
""",
    "Decoder": """\
# Without the padding, sample t would not come out as sample t.
Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
    in_channels: !ref <num_filters>
    out_channels: 1
    kernel_size: !ref <kernel_size>
    stride: !ref <kernel_stride>
    padding: !ref <kernel_size> - <kernel_stride>
    bias: False
""",
    "loss": "loss: !name:speechbrain.nnet.losses.get_si_snr_with_pitwrapper\n",
    "base_folder_dm": DYNAMIC,
    "dynamic_mixing": "# Draws new training mixtures in every epoch\n"
    "dynamic_mixing: False\n",
}
SPLITS = """\
train_data: !ref <save_folder>/{0}_tr.csv
valid_data: !ref <save_folder>/{0}_cv.csv
test_data: !ref <save_folder>/{0}_tt.csv
"""
RIR_PATH = """\
# Folder of the room impulse responses of the training set, for training with
# speed perturbation. If it does not exist, it is made.
rir_path: !PLACEHOLDER
"""
# What else is SpeechBrain's own in a recipe, by YAML.
OWN = {
    "s4m.yaml": {
        "data_folder": "# e.g. /yourpath/wsj0-mix/2speakers; its name ends with"
        " 2speakers or 3speakers\ndata_folder: !PLACEHOLDER\n"
    },
    "s4m-wham.yaml": {
        "data_folder": "# The name of the folder has to be wham_original: "
        "SpeechBrain goes by it.\n"
        "data_folder: !PLACEHOLDER\n",
        **dict(
            zip(
                ("train_data", "valid_data", "test_data"),
                SPLITS.format("whamorg").splitlines(keepends=True),
            )
        ),
    },
    "s4m-whamr.yaml": {
        "data_folder": "# The name of the folder has to be whamr: SpeechBrain "
        "goes by it.\n"
        f"data_folder: !PLACEHOLDER\n\n{RIR_PATH}",
        **dict(
            zip(
                ("train_data", "valid_data", "test_data"),
                SPLITS.format("whamr").splitlines(keepends=True),
            )
        ),
    },
}
OWN["s4m-tiny.yaml"] = OWN["s4m.yaml"]

README_LINE = f", [S4M]({PAPER})"
README_ROOT = "[ConvTasNET](https://arxiv.org/abs/1809.07454) |"
README_MODELS = "[DPTNet](https://arxiv.org/abs/2007.13975)."
EXAMPLES = {
    WSJ0MIX: (
        "# Multi-GPU training\n",
        """\
* S4M on WSJ0-2Mix `python train.py hparams/s4m.yaml --data_folder \
yourpath/wsj0-mix/2speakers`, and its small size with `hparams/s4m-tiny.yaml`. \
The 3.6 M parameters of `s4m.yaml` are a reconstruction: the authors published \
the code of the small size alone.

""",
    ),
    WHAM: (
        "# Multi-GPU training\n",
        """\
* S4M on WHAM! `python train.py hparams/s4m-wham.yaml --data_folder \
yourpath/wham_original`

* S4M on WHAMR! `python train.py hparams/s4m-whamr.yaml --data_folder \
yourpath/whamr --rir_path yourpath/rir_wavs`

""",
    ),
}
MESSAGE = """\
Add S4M for speech separation

S4M separates speech with several time scales, of which the coarsest is
modelled by a structured state-space layer: Chen et al., Interspeech 2023,
{paper}

- speechbrain/lobes/models/s4m.py: encoder and mask network; the decoder is
  that of dual_path.py
- {recipes}
- no change to train.py, the losses or the inference code; no new dependency
"""


def main():
    """Reads the command line and makes the branch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="a clone of SpeechBrain")
    parser.add_argument(
        "--wsj0mix",
        action="store_true",
        help="leave WHAM! and WHAMR! for later",
    )
    parser.add_argument(
        "--branch", default="s4m", help="its name (default: %(default)s)"
    )
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    if not (checkout / "speechbrain/lobes/models/dual_path.py").is_file():
        sys.exit(f"{arguments.checkout}: is no checkout of SpeechBrain")
    if git(checkout, "status", "--porcelain"):
        sys.exit(f"{arguments.checkout}: has changes that are not committed")
    git(checkout, "switch", "--quiet", "--create", arguments.branch)
    make(checkout, [WSJ0MIX] if arguments.wsj0mix else [WSJ0MIX, WHAM])
    git(checkout, "show", "--stat", "--format=%h %s", output=None)


def make(checkout, recipes):
    """Writes the files and commits them."""
    shutil.copy(KIT / "s4m.py", checkout / "speechbrain/lobes/models")
    shutil.copy(KIT / "test_s4m.py", checkout / "tests/unittests")
    edit(checkout / "README.md", README_ROOT, before=" |", text=README_LINE)
    for recipe in recipes:
        readme = checkout / recipe / "README.md"
        edit(readme, README_MODELS, before=".", text=README_LINE)
        anchor, text = EXAMPLES[recipe]
        edit(readme, anchor, before=anchor, text=text)
    for path, pattern in YAMLS.items():
        if any(path.startswith(recipe) for recipe in recipes):
            (checkout / path).write_text(derive(path), encoding="utf-8")
            add_row(checkout, path, pattern)
    names = ", ".join(
        Path(p).name for p in YAMLS if p.startswith(tuple(recipes))
    )
    git(checkout, "add", "--all")
    git(
        checkout,
        "commit",
        "--quiet",
        "--message",
        MESSAGE.format(paper=PAPER, recipes=names),
    )


def derive(path):
    """SpeechBrain's form of a YAML of ours.

    Arguments
    ---------
    path : str
        Its path, the same in both repositories.

    Returns
    -------
    str
        The text.
    """
    text = (RECIPES.parent / path).read_text(encoding="utf-8")
    own = {**MODULES, **OWN[Path(path).name]}
    lines = []
    for key, comments, body in blocks(text):
        if key == "MaskNet":
            body = body.replace("s4m_sb.network.masknet.", SPEECHBRAINS)
            body = re.sub(r"    kernel: .*\n", "", body)
        if key in DROPPED:
            body, comments = "", kept(comments)
        elif key in own:
            body, comments = own[key], kept(comments)
        lines += [comments, body]
    text = "".join(lines).replace(
        "is our reconstruction", "is a reconstruction"
    )
    text = re.sub(", or one made by `s4m mix`.*", "", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def blocks(text):
    """Splits a YAML into (key at the top, comments above it, its lines)."""
    comments, body, key = "", "", None
    for line in text.splitlines(keepends=True):
        found = re.match(r"(\w+):", line)
        if not found and key is not None and line.startswith(" "):
            body += line
            continue
        if key is not None:
            yield key, comments, body
            comments, body, key = "", "", None
        if found:
            key, body = found[1], line
        else:
            comments += line
    if key is not None:
        yield key, comments, body


def kept(comments):
    """Of the comments above a key that goes, what does not speak of it."""
    lines = comments.splitlines(keepends=True)
    while lines and lines[-1].startswith("# ") and "-----" not in lines[-1]:
        lines.pop()
    return "".join(lines)


def add_row(checkout, path, pattern):
    """Adds a YAML to its list in `tests/recipes`, for SpeechBrain's tests."""
    table = checkout / "tests/recipes" / f"{path.split('/')[1]}.csv"
    with open(table, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        fields = reader.fieldnames
        theirs = path.rsplit("/", 1)[0] + "/" + pattern
        row = [row for row in reader if row["Hparam_file"] == theirs][0]
    row["Hparam_file"] = path
    for unknown in ("Result_url", "HF_repo", "performance"):
        row[unknown] = ""
    row["test_debug_flags"] += f" {SHRUNK}"
    lacks_newline = not table.read_bytes().endswith(b"\n")
    with open(table, "a", newline="", encoding="utf-8") as file:
        file.write("\n" if lacks_newline else "")
        csv.DictWriter(file, fields, lineterminator="\n").writerow(row)


def edit(path, anchor, before, text):
    """Puts a text into a file, inside an anchor that stands there once."""
    content = path.read_text(encoding="utf-8")
    if content.count(anchor) != 1:
        sys.exit(f"{path}: {content.count(anchor)} times {anchor!r}, not once")
    head, tail = (
        anchor[: anchor.rindex(before)],
        anchor[anchor.rindex(before) :],
    )
    path.write_text(
        content.replace(anchor, head + text + tail), encoding="utf-8"
    )


def git(checkout, *words, output=subprocess.PIPE):
    """What Git says."""
    result = subprocess.run(
        ["git", "-C", str(checkout), *words],
        stdout=output,
        check=True,
        text=True,
    )
    return (result.stdout or "").strip()


if __name__ == "__main__":
    main()
