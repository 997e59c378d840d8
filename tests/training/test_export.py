"""From a real SpeechBrain run to a model folder, whole or not at all."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from small_model import NETWORK, SEPFORMER, train

from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.pretrained.card import describe_model
from s4m_sb.training import export
from s4m_sb.training.export import best_checkpoint, export_model


def parameters(model):
    return dict(model.mods.state_dict())


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("network", [NETWORK, SEPFORMER])
def test_the_best_checkpoint_becomes_a_model(tmp_path, network):
    states = train(tmp_path / "run", network)
    out_dir = export_model(tmp_path / "run", tmp_path / "deep" / "model")
    assert out_dir == tmp_path / "deep" / "model"
    assert {path.name for path in out_dir.iterdir()} == export.FILES
    assert not any(path.is_symlink() for path in out_dir.iterdir())
    shutil.rmtree(tmp_path / "run")
    model = S4MSeparation.from_hparams(out_dir)
    assert_same(parameters(model), states[1])
    assert model.separate_batch(torch.randn(1, 900)).shape == (1, 900, 2)


def test_overrides_of_the_run_are_in_the_model(tmp_path):
    train(tmp_path / "run", overrides="num_spks: 3\nsample_rate: 16000\n")
    model = S4MSeparation.from_hparams(
        export_model(tmp_path / "run", tmp_path / "model")
    )
    assert (model.hparams.num_spks, model.hparams.sample_rate) == (3, 16000)
    assert model.separate_batch(torch.randn(1, 900)).shape == (1, 900, 3)


def test_a_run_that_was_moved_can_be_exported(tmp_path):
    states = train(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    model = S4MSeparation.from_hparams(
        export_model(tmp_path / "moved", tmp_path / "model")
    )
    assert_same(parameters(model), states[1])


def test_the_lowest_validation_loss_is_the_best(tmp_path):
    train(tmp_path / "run", losses=(None, -9.0, 4.0, -9.5, None))
    assert best_checkpoint(tmp_path / "run").meta["si-snr"] == -9.5


def run_without_yaml(run):
    (run / "hyperparams.yaml").unlink()


def run_without_checkpoints(run):
    shutil.rmtree(run / "save")


def run_without_scores(run):
    shutil.rmtree(run)
    train(run, losses=(None,))


def run_without_masknet(run):
    (best_checkpoint(run).path / "masknet.ckpt").unlink()


def run_of_another_size(run):
    yaml = run / "hyperparams.yaml"
    yaml.write_text(yaml.read_text().replace("d_model: 8", "d_model: 12"))


def run_with_a_broken_checkpoint(run):
    (best_checkpoint(run).path / "encoder.ckpt").write_bytes(b"broken")


def run_with(name, content):
    """A damage: files of this name in the run hold something else."""

    def damage(run):
        found = list(run.glob(name)) or [run / name]
        for path in found:
            path.write_bytes(content)

    return damage


META = "save/CKPT*/CKPT.yaml"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "hyperparams.yaml: no such file"),
        (run_without_yaml, "hyperparams.yaml: no such file"),
        (run_without_checkpoints, "save: has no checkpoint"),
        (run_without_scores, "save: has no checkpoint.*si-snr"),
        (run_without_masknet, "has no masknet.ckpt"),
        (run_of_another_size, "masknet.ckpt: does not fit"),
        (run_with_a_broken_checkpoint, "encoder.ckpt: is no PyTorch"),
        (run_with("summary.json", b"{"), "summary.json: is no JSON"),
        (run_with("summary.json", b"[]"), "summary.json: is no JSON object"),
        (run_with("summary.json", b"3"), "summary.json: is no JSON object"),
        (run_with("summary.json", b"[" * 9999), "summary.json: is no JSON"),
        (run_with("summary.json", b"\xff"), "summary.json: is no UTF-8"),
        (run_with("hyperparams.yaml", b"\xff"), "yaml: is no UTF-8 text"),
        (run_with(META, b"si-snr: abc\n"), "CKPT.yaml: si-snr is 'abc'"),
        (run_with(META, b"si-snr:\n"), "CKPT.yaml: si-snr is None"),
        (run_with(META, b"[1]\n"), "CKPT.yaml: has no keys"),
        (run_with(META, b"a: \xff\n"), "CKPT.yaml: is no UTF-8 text"),
        (run_with(META, b"a: !!bool maybe\n"), "CKPT.yaml: "),
        (
            run_with(META, b"!!python/object/apply:os.system [touch mark]\n"),
            "CKPT.yaml: .*python/object/apply:os.system",
        ),
    ],
)
def test_a_failed_export_leaves_nothing(tmp_path, damage, message):
    train(tmp_path / "run")
    damage(tmp_path / "run")
    out_dir = tmp_path / "models" / "model"
    with pytest.raises(InputError, match=message) as caught:
        export_model(tmp_path / "run", out_dir)
    assert "\n" not in str(caught.value)
    assert not out_dir.exists()
    assert not out_dir.parent.exists() or not list(out_dir.parent.iterdir())


def test_an_interrupted_export_leaves_the_old_model(tmp_path, monkeypatch):
    train(tmp_path / "run")
    out_dir = export_model(tmp_path / "run", tmp_path / "model", name="old")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_copy_parameters", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_model(tmp_path / "run", out_dir, name="new", force=True)
    assert "# old" in (out_dir / "README.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["model", "run", "train.yaml"]


def test_an_existing_folder_is_replaced_by_force_alone(tmp_path):
    train(tmp_path / "run")
    out_dir = export_model(tmp_path / "run", tmp_path / "model", name="old")
    with pytest.raises(InputError, match="model: exists.*--force"):
        export_model(tmp_path / "run", out_dir)
    export_model(tmp_path / "run", out_dir, name="new", force=True)
    assert "# new" in (out_dir / "README.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["model", "run", "train.yaml"]


@pytest.mark.parametrize("target", ["run", "other", "file"])
def test_force_replaces_nothing_but_a_model_folder(tmp_path, target):
    train(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=f"{target}: is no model folder"):
        export_model(tmp_path / "run", tmp_path / target, force=True)
    assert (tmp_path / "other" / "thesis.tex").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "precious"
    assert best_checkpoint(tmp_path / "run")


def test_another_objective_is_not_called_si_snr(tmp_path):
    train(tmp_path / "run")
    for path in (tmp_path / "run" / "save").glob("CKPT*/CKPT.yaml"):
        path.write_text(path.read_text() + "objective: pit_sa_sdr_loss\n")
    out_dir = export_model(tmp_path / "run", tmp_path / "model")
    card = (out_dir / "README.md").read_text()
    assert "| valid pit_sa_sdr_loss (dB) | -7.00 |" in card
    assert "valid SI-SNR" not in card


def test_the_card_says_what_is_known(tmp_path):
    train(tmp_path / "run")
    summary = {
        "epoch": 1,
        "si-snr_i": 9.514,
        "num_items": 300,
        "about": {"hardware": "2 cores", "seed": 1},
        "metrics": ["sdr"],
    }
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    out_dir = export_model(
        tmp_path / "run",
        tmp_path / "my-model",
        data="read speech",
        license="apache-2.0",
        command="python train.py",
    )
    card = (out_dir / "README.md").read_text()
    front, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert load_hyperpyyaml(front)["license"] == "apache-2.0"
    model = describe_model(out_dir)
    assert (model.sample_rate, model.num_spks) == (8000, 2)
    assert (model.si_snr_i_db, model.license) == (9.514, "apache-2.0")
    network = S4MSeparation.from_hparams(out_dir).mods
    assert model.num_parameters == sum(p.numel() for p in network.parameters())
    for line in (
        "# my-model",
        "Separates 2 voices at 8000 Hz.",
        "| valid SI-SNR (dB) | 7.00 |",
        "| epoch | 1 |",
        "| si-snr_i | 9.51 |",
        "| num_items | 300 |",
        "| about seed | 1 |",
        "- about hardware: 2 cores",
        "- Data: read speech",
        "- Command: python train.py",
        "- License: apache-2.0",
    ):
        assert line in body.splitlines()


def test_the_card_may_be_ones_own_and_a_licence_may_be_a_sentence(tmp_path):
    train(tmp_path / "run")
    out_dir = export_model(
        tmp_path / "run", tmp_path / "a", license="ask: the author"
    )
    card = (out_dir / "README.md").read_text()
    assert "license: other\n" in card
    assert "- License: ask: the author" in card
    own = tmp_path / "card.md"
    own.write_text("# Mine\n")
    out_dir = export_model(tmp_path / "run", tmp_path / "b", card=own)
    assert (out_dir / "README.md").read_text() == "# Mine\n"
    own.write_bytes(b"\xff")
    with pytest.raises(InputError, match="card.md: is no UTF-8 text"):
        export_model(tmp_path / "run", tmp_path / "c", card=own)
    with pytest.raises(InputError, match="nosuch.md: no such file"):
        export_model(tmp_path / "run", tmp_path / "c", card="nosuch.md")
    assert not Path(tmp_path / "c").exists()


def test_the_card_leaves_out_results_of_another_checkpoint(tmp_path):
    train(tmp_path / "run")  # its best checkpoint is that of epoch 1
    (tmp_path / "run" / "summary.json").write_text('{"epoch": 2, "sdr": 9.5}')
    out_dir = export_model(tmp_path / "run", tmp_path / "my-model")
    assert "sdr" not in (out_dir / "README.md").read_text()


def test_a_checkpoint_that_is_being_written_is_named(tmp_path):
    train(tmp_path / "run")
    half = tmp_path / "run" / "save" / "CKPT+half"
    half.mkdir()
    (half / "CKPT.yaml").touch()
    with pytest.raises(InputError, match="CKPT.half: has not been written"):
        export_model(tmp_path / "run", tmp_path / "my-model")
    assert half.exists()


@pytest.mark.parametrize("has", [True, False])
def test_a_folder_for_speechbrain_alone(tmp_path, monkeypatch, has):
    """Its own class names, or a file of the folder until it has them."""
    monkeypatch.setattr("s4m_sb.training.export.has_s4m", lambda: has)
    train(tmp_path / "run")
    ours = export_model(tmp_path / "run", tmp_path / "ours")
    out = export_model(
        tmp_path / "run", tmp_path / "model", speechbrain=True, time="2 h"
    )
    text = (out / "hyperparams.yaml").read_text("utf-8")
    assert "s4m_sb" not in text
    module = "speechbrain.lobes.models.s4m" if has else "custom"
    assert f"MaskNet: !new:{module}.S4MMaskNet\n" in text
    assert (out / "custom.py").exists() is not has
    card = (out / "README.md").read_text("utf-8")
    assert "- Training time: 2 h\n" in card
    name = "SepformerSeparation.from_hparams(" if has else "foreign_class("
    assert f'model = {name}"PATH_OF_THIS_FOLDER")' in card
    mixture = torch.randn(1, 4000)
    voices = [
        S4MSeparation.from_hparams(folder).separate_batch(mixture)
        for folder in (ours, out)
    ]
    # Another decoder sums up in another order.
    torch.testing.assert_close(*voices, rtol=0, atol=1e-5)
    # It is replaced like any other model folder.
    export_model(tmp_path / "run", out, force=True)
    assert not (out / "custom.py").exists()
