"""The YAMLs of the recipes: no key unused or missing, sizes as stated."""

import re

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from recipe_runs import RECIPES, REPOSITORY
from yaml_keys import keys_of, names_read, unread

YAMLS = {
    f"{recipe.parent.name}/{path.name}": path
    for recipe in RECIPES
    for path in sorted(recipe.glob("hparams/*.yaml"))
}
OVERRIDES = {"data_folder": "/data"}

# What SpeechBrain's own train.py for WSJ0Mix asks of its YAML.
SPEECHBRAIN_KEYS = set(
    """
    data_folder save_folder output_folder num_spks skip_prep sample_rate
    dynamic_mixing base_folder_dm train_data valid_data test_data
    training_signal_len limit_training_signal_len dataloader_opts modules
    optimizer checkpointer epoch_counter lr_scheduler train_logger loss
    use_speedperturb use_rand_shift min_shift max_shift speed_perturb
    use_wavedrop drop_chunk drop_freq Encoder MaskNet Decoder
    threshold_byloss threshold loss_upper_lim clip_grad_norm
    save_audio n_audio_to_save precision
    """.split()
)

# How SpeechBrain finds, in tests/consistency, that a script reads a key. It
# looks into train.py alone; ours leave the training to `s4m_sb.training`.
FORMS = (
    '["{}"]',
    "hparams.{}",
    "modules.{}",
    'attr(self.hparams, "{}',
    'hparams.get("{}',
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A YAML that is built makes its output folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=YAMLS)
def path(request):
    """Each YAML of each recipe."""
    return YAMLS[request.param]


def build(path, **overrides):
    """What a YAML describes."""
    text = path.read_text(encoding="utf-8")
    for key in ("base_folder_dm", "noise_folder_dm"):
        if f"{key}: !PLACEHOLDER" in text:
            overrides[key] = "/data"
    return load_hyperpyyaml(text, OVERRIDES | overrides)


def scripts_of(path):
    """The scripts that read a YAML."""
    training = REPOSITORY / "s4m_sb" / "training"
    return [path.parents[1] / "train.py", *sorted(training.glob("*.py"))]


def test_every_key_is_used(path):
    text = path.read_text(encoding="utf-8")
    top, referred = keys_of(text)
    assert len(top) == len(set(top))
    assert referred <= set(top)
    read = names_read(scripts_of(path))
    assert unread(text, read.__contains__) == []


def test_every_key_is_used_as_speechbrain_sees_it(path):
    text = path.read_text(encoding="utf-8")
    scripts = "".join(file.read_text("utf-8") for file in scripts_of(path))
    seen = unread(
        text, lambda key: any(form.format(key) in scripts for form in FORMS)
    )
    assert seen == []


def test_speechbrains_recipe_finds_its_keys(path):
    top, _ = keys_of(path.read_text(encoding="utf-8"))
    assert SPEECHBRAIN_KEYS - set(top) == set()


def test_the_network_has_the_stated_size(path):
    hparams = build(path)
    count = sum(
        parameter.numel()
        for module in hparams["modules"].values()
        for parameter in module.parameters()
    )
    # Two decimals. The ending says which size it is.
    sizes = {"cpu": 0.32, "conversations": 0.32, "tiny": 1.84}
    millions = sizes.get(path.stem.split("-")[-1], 3.59)
    assert count / 1e6 == pytest.approx(millions, abs=0.005)
    (stated,) = re.findall(r"\(([\d.]+) M parameters", path.read_text("utf-8"))
    assert stated == f"{count / 1e6:.1f}"
    # Each module is in the checkpoints and trained.
    recoverables = hparams["checkpointer"].recoverables
    for key, module in hparams["modules"].items():
        assert recoverables[key] is module
    assert set(hparams["modules"]) == {"encoder", "masknet", "decoder"}


def test_all_yamls_are_tested():
    assert sorted(YAMLS) == [
        "WHAMandWHAMR/s4m-wham-tiny.yaml",
        "WHAMandWHAMR/s4m-wham.yaml",
        "WHAMandWHAMR/s4m-whamr-cpu.yaml",
        "WHAMandWHAMR/s4m-whamr-tiny.yaml",
        "WHAMandWHAMR/s4m-whamr.yaml",
        "WSJ0Mix/s4m-conversations.yaml",
        "WSJ0Mix/s4m-cpu.yaml",
        "WSJ0Mix/s4m-tiny.yaml",
        "WSJ0Mix/s4m.yaml",
    ]


def differences(first, second):
    """The lines in which two YAMLs differ, without their comments."""

    def values(name):
        text = YAMLS[name].read_text(encoding="utf-8")
        lines = [line.split("  #")[0] for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    pairs = zip(values(first), values(second), strict=True)
    return [pair for pair in pairs if len({*pair}) > 1]


@pytest.mark.parametrize(
    "recipe, tiny, full",
    [
        ("WSJ0Mix", "s4m-tiny", "s4m"),
        ("WHAMandWHAMR", "s4m-wham-tiny", "s4m-wham"),
        ("WHAMandWHAMR", "s4m-whamr-tiny", "s4m-whamr"),
    ],
)
def test_the_two_sizes_differ_where_they_say(recipe, tiny, full):
    yamls = (f"{recipe}/{tiny}.yaml", f"{recipe}/{full}.yaml")
    assert differences(*yamls) == [
        (f"experiment_name: {tiny}", f"experiment_name: {full}"),
        ("ff_expand: 2", "ff_expand: 1"),
        ("s4_per_scale: False", "s4_per_scale: True"),
    ]


WHAM_YAMLS = ("wham", "wham-tiny", "whamr", "whamr-tiny", "whamr-cpu")


@pytest.mark.parametrize("name", WHAM_YAMLS)
def test_the_recipes_differ_by_data_alone(name):
    ours = build(YAMLS[f"WHAMandWHAMR/s4m-{name}.yaml"])
    size = "".join(re.findall("-tiny|-cpu", name))
    theirs = build(YAMLS[f"WSJ0Mix/s4m{size}.yaml"])
    data = {"dataset", "mixture", "target", "noise_folder_dm"}
    if "whamr" in name:
        data |= {"reverb_params", "rooms_folder", "num_rooms", "rooms_seed"}
    assert set(ours) - set(theirs) == data
    assert set(theirs) <= set(ours)
    tables = {"train_data", "valid_data", "test_data"}
    folders = {"experiment_name", "output_folder", "save_folder", "train_log"}
    for key in set(theirs) - tables - folders:
        if isinstance(ours[key], (int, float, str, list)):
            assert ours[key] == theirs[key], key
    # One seed, one network: the same at the start.
    for key, module in ours["modules"].items():
        there = theirs["modules"][key].state_dict()
        for parameter, value in module.state_dict().items():
            assert torch.equal(value, there[parameter]), parameter


def test_the_small_network_learns_noise_and_rooms_besides():
    quiet, noisy = (
        build(YAMLS[name])["dynamic_mixing_opts"]
        for name in ("WSJ0Mix/s4m-cpu.yaml", "WHAMandWHAMR/s4m-whamr-cpu.yaml")
    )
    assert set(noisy) - set(quiet) == {
        "noise_split",
        "snr_range_db",
        "noise_probability",
        "room_probability",
    }
    assert {key: noisy[key] for key in quiet} == quiet


def test_the_small_network_learns_conversations_by_data_and_loss_alone():
    overlapped, turns = (
        build(YAMLS[f"WSJ0Mix/{name}.yaml"])
        for name in ("s4m-cpu", "s4m-conversations")
    )
    assert set(turns) - set(overlapped) == {"decoded_folder"}
    assert set(turns["dynamic_mixing_opts"]) - set(
        overlapped["dynamic_mixing_opts"]
    ) == {"speaker_weights", "conversation", "cache"}
    for key, module in turns["modules"].items():
        there = overlapped["modules"][key].state_dict()
        for parameter, value in module.state_dict().items():
            assert torch.equal(value, there[parameter]), parameter


def test_a_small_one_turns_to_16_khz_too():
    path = YAMLS["WHAMandWHAMR/s4m-whamr-cpu.yaml"]
    hparams = build(path, sample_rate=16000)
    assert (hparams["Encoder"].kernel_size, hparams["Encoder"].stride) == (
        64,
        32,
    )
    assert hparams["training_signal_len"] == 3 * 16000
    assert (hparams["min_shift"], hparams["max_shift"]) == (-16000, 16000)


@pytest.mark.parametrize("name", WHAM_YAMLS[:-1])
def test_one_override_turns_to_16_khz(name):
    hparams = build(YAMLS[f"WHAMandWHAMR/s4m-{name}.yaml"], sample_rate=16000)
    encoder = hparams["Encoder"]
    # 2 ms and a quarter of it, as at 8 kHz, and a filter for each frequency
    assert (encoder.kernel_size, encoder.stride) == (32, 8)
    assert encoder.weight.shape[0] == hparams["num_filters"] == 17
    assert hparams["MaskNet"].bottleneck.in_features == 17
    assert hparams["training_signal_len"] == 4 * 16000
    assert (hparams["min_shift"], hparams["max_shift"]) == (-16000, 16000)
    assert hparams["speed_perturb"].orig_freq == 16000


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_train_py_stays_short(recipe):
    assert len((recipe / "train.py").read_text().splitlines()) <= 120
