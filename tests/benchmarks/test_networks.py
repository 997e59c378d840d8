"""The YAMLs of the networks that are compared: nothing in them is idle."""

import sys

import pytest
from recipe_runs import REPOSITORY, WHAM
from yaml_keys import keys_of, names_read, unread

BENCHMARKS = REPOSITORY / "benchmarks"
sys.path.append(str(BENCHMARKS))

import networks  # noqa: E402
import speed_networks  # noqa: E402

PARTS = {"Encoder", "MaskNet", "Decoder"}
USED = {row["network"] for row in networks.MODELS.values()}
USED |= {row["network"] for row in speed_networks.ROWS.values()}


@pytest.mark.parametrize("model", networks.MODELS)
def test_every_key_of_a_training_is_used(model):
    shared = (BENCHMARKS / "training.yaml").read_text(encoding="utf-8")
    text = shared + networks.network_yaml(model)
    training = (REPOSITORY / "s4m_sb" / "training").glob("*.py")
    read = names_read(
        [BENCHMARKS / "train_model.py", WHAM / "train.py", *training]
    )
    top, referred = keys_of(text)
    assert len(top) == len(set(top)) and referred <= set(top)
    assert unread(text, read.__contains__) == []


@pytest.mark.parametrize("name", sorted(USED))
def test_every_size_of_a_network_is_used(name):
    text = (networks.FOLDER / name).read_text(encoding="utf-8")
    trained = {row["network"] for row in networks.MODELS.values()}
    read = PARTS | ({"lr"} if name in trained else set())
    assert unread(text, read.__contains__) == []


@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize("size", networks.SIZES)
def test_a_row_changes_what_is_there(model, size):
    top, _ = keys_of(networks.network_yaml(model))
    assert networks.MODELS[model][size].keys() <= set(top)


@pytest.mark.parametrize("model", speed_networks.ROWS)
def test_a_row_of_speed_changes_what_is_there(model):
    row = speed_networks.ROWS[model]
    text = (networks.FOLDER / row["network"]).read_text(encoding="utf-8")
    assert row["options"].keys() <= set(keys_of(text)[0])


def test_every_network_is_in_a_table():
    tables = {"models.yaml", "speed.yaml"}
    assert {path.name for path in networks.FOLDER.iterdir()} == USED | tables
