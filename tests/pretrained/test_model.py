"""A stored model: read where it is, whole, or refused in one line."""

import shutil

import huggingface_hub
import pytest
import torch
from small_model import write_model

from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.pretrained.hparams import load_hparams
from s4m_sb.pretrained.model import load_pretrained


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "s4m": write_model(folder / "s4m"),
        "three": write_model(folder / "three", num_spks=3),
    }


@pytest.fixture
def copy(folders, tmp_path):
    """A model folder that a test may damage."""
    return shutil.copytree(folders["s4m"], tmp_path / "copy")


def listing(folder):
    return sorted(
        (path.relative_to(folder), path.is_symlink(), path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    )


def test_a_local_folder_is_read_where_it_is(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = listing(folders["s4m"])
    savedir = tmp_path / "unused"
    model = S4MSeparation.from_hparams(str(folders["s4m"]), savedir=savedir)
    assert listing(folders["s4m"]) == before
    assert list(tmp_path.iterdir()) == []
    for name in ("encoder", "masknet", "decoder"):
        state = torch.load(folders["s4m"] / f"{name}.ckpt")
        for key, value in model.mods[name].state_dict().items():
            assert torch.equal(value, state[key])
    assert not any(module.training for module in model.mods.values())
    assert not any(p.requires_grad for p in model.parameters())


def test_two_folders_with_one_savedir_are_two_models(folders, tmp_path):
    two, three = (
        S4MSeparation.from_hparams(folders[name], savedir=tmp_path)
        for name in ("s4m", "three")
    )
    mix = torch.randn(1, 8000)
    assert two.separate_batch(mix).shape == (1, 8000, 2)
    assert three.separate_batch(mix).shape == (1, 8000, 3)


@pytest.mark.parametrize("with_savedir", [False, True])
def test_a_hub_model_goes_through_speechbrain(
    folders, tmp_path, monkeypatch, with_savedir
):
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename))
        return str(folders["s4m"] / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    savedir = tmp_path / "hub" if with_savedir else None
    model = S4MSeparation.from_hparams("somebody/s4m", savedir=savedir)
    assert model.separate_batch(torch.randn(1, 8000)).shape == (1, 8000, 2)
    assert {name for _, name in asked} >= {
        "hyperparams.yaml",
        "encoder.ckpt",
        "masknet.ckpt",
        "decoder.ckpt",
    }
    assert {repo for repo, _ in asked} == {"somebody/s4m"}
    assert (savedir is None) or (savedir / "masknet.ckpt").exists()


def test_parameters_that_the_hub_does_not_give_are_one_line(
    folders, monkeypatch
):
    def download(repo_id, filename, **options):
        if filename == "masknet.ckpt":
            raise ConnectionError("cannot\nconnect")
        return str(folders["s4m"] / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(InputError, match=r"a/b: .*parameters.*\(cannot\)$"):
        S4MSeparation.from_hparams("a/b")


@pytest.mark.parametrize(
    "name", ["hyperparams.yaml", "encoder.ckpt", "masknet.ckpt", "decoder.ckpt"]
)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such"):
        S4MSeparation.from_hparams(copy)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_broken_checkpoint_is_named(copy, content):
    (copy / "masknet.ckpt").write_bytes(content)
    with pytest.raises(InputError, match="masknet.ckpt: is no PyTorch"):
        S4MSeparation.from_hparams(copy)


@pytest.mark.parametrize("damage", ["missing", "other shape"])
def test_parameters_that_do_not_fit_are_refused(copy, damage):
    state = torch.load(copy / "masknet.ckpt")
    name = next(iter(state))
    if damage == "missing":
        del state[name]
    else:
        state[name] = torch.zeros(3, 3, 3, 3)
    torch.save(state, copy / "masknet.ckpt")
    with pytest.raises(InputError, match=f"masknet.ckpt: does not fit.*{name}"):
        S4MSeparation.from_hparams(copy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pretrainer:", "trainer:", "has no 'pretrainer'.*s4m export"),
        ("num_spks: 2", "speakers: 2", "num_spks"),
        ("sample_rate:", "rate:", "has no 'sample_rate'"),
        ("    decoder: !ref", "    other: !ref", "has no 'decoder'"),
        ("d_model: 8", "d_model: 0", "d_model.*0"),
        ("d_model: 8", "d_modell: 8", "d_modell"),
        ("S4MMaskNet", "NoSuchNet", "NoSuchNet"),
        ("num_spks: 2", "num_spks: [", "hyperparams.yaml: "),
    ],
)
def test_a_wrong_yaml_is_one_clear_line(copy, old, new, message):
    yaml = copy / "hyperparams.yaml"
    yaml.write_text(yaml.read_text().replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        S4MSeparation.from_hparams(copy)
    assert str(yaml) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_reach_the_yaml(folders):
    model = S4MSeparation.from_hparams(
        folders["s4m"], overrides={"sample_rate": 16000}
    )
    assert model.hparams.sample_rate == 16000


def test_a_training_starts_from_a_model(folders):
    model = S4MSeparation.from_hparams(folders["s4m"])
    yaml = folders["s4m"] / "hyperparams.yaml"
    modules = load_hparams(yaml)["modules"]
    load_pretrained(folders["s4m"], modules)
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, model.mods[name].state_dict()[key])
            assert all(p.requires_grad for p in module.parameters())


def test_a_training_does_not_start_from_another_network(folders):
    modules = load_hparams(folders["s4m"] / "hyperparams.yaml")["modules"]
    with pytest.raises(InputError, match="the masknet of .* another network"):
        load_pretrained(folders["three"], modules)
