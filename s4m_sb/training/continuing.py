"""A training that goes on: what may have changed since, and what may not.

The output folder holds the YAML that it was started with. The network, the
data's task and what makes its checkpoints one training stay as they are: the
loss by which the best one is chosen, the seed, the optimizer's kind. Whatever
else is given anew takes effect, the learning rate and its schedule included,
and is said in one line.

Above this file: `experiment.py`. Below it: `pretrained/model_yaml.py`.
"""

import itertools
import os
from pathlib import Path
from typing import Any

from hyperpyyaml import resolve_references

from s4m_sb.errors import InputError, one_line
from s4m_sb.pretrained.model_yaml import model_yaml
from s4m_sb.pretrained.references import PLAIN, compose, plain_value

# What is separated from what.
TASK_KEYS = (
    "dataset",
    "mixture",
    "target",
    "version",
    "dynamic_mixing",
    "base_folder_dm",
)
# From which state a training began, and what is best in it.
TRAINING_KEYS = ("pretrained_model", "seed", "loss")
# Of these the kind stays; their values may change.
FIXED_KINDS = ("optimizer", "lr_scheduler")
# Whose state holds what the training has seen, and none of its values.
FREE_SCHEDULERS = ("ReduceLROnPlateau",)


def changes_of_run(
    output_folder: str | os.PathLike,
    hparams_file: str | os.PathLike,
    overrides: str,
    stored: tuple[str, ...] = (),
    test_only: bool = False,
) -> list[str]:
    """Compares a training with the one whose checkpoints are in its folder.

    Arguments
    ---------
    output_folder : str or os.PathLike
        Of the training: ``hyperparams.yaml`` and ``save/CKPT*`` of an earlier
        one may be there.
    hparams_file : str or os.PathLike
        The YAML of this training.
    overrides : str
        What replaces values in it.
    stored : tuple of str
        Keys whose objects checkpoints bring back as they were.
    test_only : bool
        Nothing is trained: network and task alone must be the same.

    Returns
    -------
    list of str
        What is no longer as it was, ``"lr: 0.1 (was 0.2)"``; nothing if there
        are no checkpoints.

    Raises
    ------
    InputError
        If ``output_folder`` holds checkpoints of another training, or does
        not say of which.
    """
    before = Path(output_folder) / "hyperparams.yaml"
    if not before.is_file() or not any(before.parent.glob("save/CKPT*")):
        return []
    try:
        old, was = _read(before, "")
    except Exception as error:  # of two YAML libraries
        reason = one_line(error)
        if not isinstance(error, InputError):
            reason = f"{before}: {reason}"
        raise InputError(
            f"{reason}; it says what the checkpoints beside it are of. If "
            f"they are of {hparams_file} with the same options, remove it "
            "and start again; if not, give another --output_folder"
        ) from error
    new, now = _read(hparams_file, overrides)
    pairs = list(itertools.zip_longest(old, new, fillvalue="nothing"))
    fixed = TASK_KEYS if test_only else TASK_KEYS + TRAINING_KEYS
    pairs += [(_shown(key, was), _shown(key, now)) for key in fixed]
    for key in () if test_only else FIXED_KINDS:
        kinds = _kind(was.get(key)), _kind(now.get(key))
        free = key not in stored or kinds[1].endswith(FREE_SCHEDULERS)
        if kinds[0] != kinds[1]:
            pairs.append((f"{key}: {kinds[0]}", f"{key}: {kinds[1]}"))
        elif not free:
            pairs.append((_shown(key, was), _shown(key, now)))
    if not test_only and now.get("ema_decay") is None:
        pairs.append((_shown("ema_decay", was), _shown("ema_decay", now)))
    for old_line, new_line in pairs:
        if old_line != new_line:
            raise InputError(
                f"{output_folder}: holds checkpoints of another training "
                f"({old_line}, now {new_line}); give another "
                "--experiment_name or --output_folder"
            )
    moved = str(was.get("output_folder")), str(now.get("output_folder"))
    return [
        f"{_shown(key, now)} (was {_value(was.get(key))})"
        for key in now
        if not _same(was.get(key), now[key], *moved)
        and not isinstance(now[key], dict)
        and not key.startswith("__")
    ]


def _read(
    path: str | os.PathLike, overrides: str
) -> tuple[list[str], dict[str, Any]]:
    """The lines of the network, and the values of all keys."""
    with open(path, encoding="utf-8") as file:
        text = resolve_references(file, overrides).getvalue()
    root = compose(text)
    if root is None or not isinstance(root.value, list):
        raise InputError(f"{path}: has no keys")
    lines = [line.strip() for line in model_yaml(text, path).splitlines()]
    # Repeats may be checkpointed in one run and not in the next.
    lines = [line for line in lines if "checkpoint_repeats" not in line]
    return lines, {key.value: _plain(value) for key, value in root.value}


def _plain(node: Any) -> Any:
    """The value of a node; one of an object has its kind as first key."""
    kind = {} if node.tag in PLAIN else {"kind": node.tag}
    if isinstance(node.value, str):
        return kind | {"value": node.value} if kind else plain_value(node)
    pairs = [part if isinstance(part, tuple) else None for part in node.value]
    if any(pair is None for pair in pairs):
        values = [_plain(part) for part in node.value]
        return kind | {"values": values} if kind else values
    return kind | {key.value: _plain(value) for key, value in node.value}


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", "")).partition(":")[2]
    return str(value)


def _value(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value}"
    inside = [
        f"{key} {_value(part)}" if key != "value" else str(part)
        for key, part in value.items()
        if key != "kind"
    ]
    return f"{_kind(value)} {', '.join(filter(None, inside))}".strip()


def _shown(key: str, values: dict[str, Any]) -> str:
    return f"{key}: {_value(values.get(key))}"


def _same(was: Any, now: Any, folder: str, other: str) -> bool:
    """Whether a value is what it was, in a folder that may have moved."""
    if isinstance(was, str) and isinstance(now, str):
        return was.replace(folder, other) == now
    return was == now
