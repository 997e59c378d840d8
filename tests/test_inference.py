"""The interface: every way in, every length, every level, every mistake."""

import functools
import http.server
import shutil
import threading

import huggingface_hub
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from small_model import SEPFORMER, write_model
from speech_like import speak
from speechbrain.inference.separation import SepformerSeparation

from s4m_sb import inference
from s4m_sb.errors import InputError
from s4m_sb.hparams import load_hparams
from s4m_sb.inference import (
    S4MSeparation,
    load_pretrained,
    model_folder,
    normalize_voices,
)
from s4m_sb.separate import separate

LENGTHS = [1, 2, 15, 16, 17, 799, 800, 801, 2345]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "s4m": write_model(folder / "s4m"),
        "three": write_model(folder / "three", num_spks=3),
        "sepformer": write_model(folder / "sepformer", SEPFORMER),
    }


@pytest.fixture(scope="module")
def model(folders):
    return S4MSeparation.from_hparams(folders["s4m"])


@pytest.fixture
def copy(folders, tmp_path):
    """A model folder that a test may damage."""
    return shutil.copytree(folders["s4m"], tmp_path / "copy")


def mixture(num_frames=8000, sample_rate=8000, num_items=1):
    items = [
        speak(2 * i, 0, num_frames / sample_rate, sample_rate)
        + speak(2 * i + 1, 0, num_frames / sample_rate, sample_rate)
        for i in range(num_items)
    ]
    return 0.4 * torch.from_numpy(np.stack(items))  # [B, T]


def listing(folder):
    return sorted(
        (path.relative_to(folder), path.is_symlink(), path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    )


# Where a model comes from


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
    mix = mixture()
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
    assert model.separate_batch(mixture()).shape == (1, 8000, 2)
    assert {name for _, name in asked} >= {
        "hyperparams.yaml",
        "encoder.ckpt",
        "masknet.ckpt",
        "decoder.ckpt",
    }
    assert {repo for repo, _ in asked} == {"somebody/s4m"}
    assert (savedir is None) or (savedir / "masknet.ckpt").exists()


def test_a_model_of_the_package_has_a_short_name(folders, monkeypatch):
    monkeypatch.setattr(inference, "SHIPPED_MODELS", folders["s4m"].parent)
    assert model_folder("three") == folders["three"]
    model = S4MSeparation.from_hparams("three")
    assert model.hparams.num_spks == 3


@pytest.mark.parametrize("source", ["nosuch", "./no/such", "/no/such", "a/b/c"])
def test_a_wrong_name_never_reaches_the_network(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)
    with pytest.raises(InputError, match=source):
        S4MSeparation.from_hparams(source)


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def fail(**options):
        raise ConnectionError("cannot\nconnect")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"a/b: .*cannot\)"):
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


# Batches


def test_a_batch_goes_the_one_forward_path(model):
    mix = mixture(num_items=2)
    expected = separate(
        mix, None, *(model.mods[k] for k in model.MODULES_NEEDED)
    )
    assert torch.equal(model.separate_batch(mix), expected)
    assert torch.equal(model(mix), expected)


def test_a_single_signal_is_a_batch_of_one(model):
    mix = mixture()
    assert torch.equal(model.separate_batch(mix[0]), model.separate_batch(mix))


@pytest.mark.parametrize("name", ["s4m", "sepformer"])
def test_output_is_as_long_as_the_input(folders, name):
    model = S4MSeparation.from_hparams(folders[name])
    for num_items in (1, 3):
        for num_frames in LENGTHS:
            mix = torch.randn(num_items, num_frames)
            voices = model.separate_batch(mix)
            assert voices.shape == (num_items, num_frames, 2)
            assert voices.isfinite().all()


def test_padding_changes_nothing(model):
    num_frames = [2000, 1, 1333, 250]
    lengths = torch.tensor(num_frames) / 2000
    mix = torch.randn(4, 2000)
    padded = mix.clone()
    for item, n in enumerate(num_frames):
        padded[item, n:] = float("nan")
    voices = model.separate_batch(padded, lengths)
    for item, n in enumerate(num_frames):
        alone = model.separate_batch(mix[item : item + 1, :n])
        # float32 sums over more frames, here and there zero ones
        torch.testing.assert_close(
            voices[item, :n], alone[0], atol=1e-5, rtol=1e-4
        )
        assert (voices[item, n:] == 0).all()


def test_speechbrains_interface_gives_the_same(folders, tmp_path):
    path = tmp_path / "mix.wav"
    soundfile.write(path, mixture()[0].numpy(), 8000, subtype="FLOAT")
    for name in ("s4m", "sepformer"):
        theirs = SepformerSeparation.from_hparams(str(folders[name]))
        ours = S4MSeparation.from_hparams(folders[name])
        mix = mixture(num_items=2)
        # the masks are applied and decoded source by source there
        torch.testing.assert_close(
            ours.separate_batch(mix),
            theirs.separate_batch(mix),
            atol=1e-5,
            rtol=1e-5,
        )
        # the same after peak normalization, which amplifies both alike
        torch.testing.assert_close(
            ours.separate_file(str(path)),
            theirs.separate_file(str(path)),
            atol=1e-4,
            rtol=1e-5,
        )


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (torch.zeros(0), "0"),
        (torch.zeros(2, 0), "0"),
        (torch.zeros(1, 1, 9), r"\(1, 1, 9\)"),
        (torch.zeros(1, 9, dtype=torch.int16), "int16"),
        (torch.full((1, 9), float("nan")), "NaN"),
        (torch.full((1, 9), float("inf")), "infinite"),
    ],
)
def test_what_is_no_mixture_is_refused(model, mix, message):
    with pytest.raises(InputError, match=message):
        model.separate_batch(mix)


# Levels


def test_peak_brings_every_voice_to_one_and_leaves_silence():
    voices = torch.randn(2, 100, 3)
    voices[0, :, 1] = 0
    voices[1, :, 2] *= 1e-6
    mix = voices.sum(2)
    scaled = normalize_voices(voices, mix, "peak")
    peaks = scaled.abs().amax(1)
    assert peaks[0].tolist() == [1, 0, 1]
    assert peaks[1, :2].tolist() == [1, 1]
    assert peaks[1, 2] < 1e-4
    silence = normalize_voices(1e-7 * voices, torch.zeros(2, 100), "peak")
    assert silence.abs().max() < 1e-5


def test_mixture_finds_the_level_and_sign_of_each_voice():
    sources = torch.from_numpy(
        np.stack([speak(i, 0, 2.0, 8000) for i in range(3)], axis=1)
    )[None]
    gains = torch.tensor([0.01, -7.0, 300.0])
    mix = sources.sum(2)
    found = normalize_voices(gains * sources, mix, "mixture")
    # the ridge of 1e-3 takes a thousandth from each gain
    error = (found - sources).norm() / sources.norm()
    assert error < 3e-3
    silent = torch.cat([sources, torch.zeros(1, 16000, 1)], dim=2)
    found = normalize_voices(silent, mix, "mixture")
    assert (found[..., 3] == 0).all()
    assert found.isfinite().all()


def test_mixture_stays_tame_when_the_voices_are_the_same():
    mix = mixture()
    voices = mix.unsqueeze(2).expand(1, 8000, 2)
    found = normalize_voices(voices, mix, "mixture")
    # half the mixture each, up to the ridge
    torch.testing.assert_close(found, 0.5 * voices, atol=1e-3, rtol=0)


def test_none_leaves_the_voices_and_others_are_refused():
    voices, mix = torch.randn(1, 9, 2), torch.randn(1, 9)
    assert normalize_voices(voices, mix, "none") is voices
    with pytest.raises(InputError, match="'loud'.*peak, mixture, none"):
        normalize_voices(voices, mix, "loud")


# Files


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize(
    ("suffix", "subtype", "bits"),
    [("wav", "PCM_16", 15), ("wav", "FLOAT", 23), ("flac", "PCM_24", 23)],
)
def test_any_file_is_mixed_down_and_brought_to_the_models_rate(
    model, tmp_path, sample_rate, num_channels, suffix, subtype, bits
):
    signal = mixture(sample_rate // 2, sample_rate)[0]
    channels = torch.stack([signal, 0.5 * signal.flip(0)][:num_channels], dim=1)
    path = tmp_path / f"mix.{suffix}"
    soundfile.write(path, channels.numpy(), sample_rate, subtype=subtype)
    voices = model.separate_file(path, normalize="none")
    mix = torchaudio.functional.resample(
        channels.mean(1), sample_rate, 8000
    ).unsqueeze(0)
    expected = model.separate_batch(mix)
    assert voices.shape == expected.shape == (1, 4000, 2)
    # the file's last bit, through a network that may amplify it tenfold
    gain = float(expected.abs().max() / mix.abs().max())
    atol = 10 * max(gain, 1) * 2.0**-bits + 1e-6
    torch.testing.assert_close(voices, expected, atol=atol, rtol=0)


def test_a_file_is_normalized_as_asked(model, tmp_path):
    mix = mixture()
    path = tmp_path / "mix.wav"
    soundfile.write(path, mix[0].numpy(), 8000, subtype="FLOAT")
    raw = model.separate_file(path, normalize="none")
    for normalize in ("peak", "mixture"):
        assert torch.equal(
            model.separate_file(path, normalize=normalize),
            normalize_voices(raw, mix, normalize),
        )
    assert torch.equal(
        model.separate_file(path), model.separate_file(path, normalize="peak")
    )
    with pytest.raises(InputError, match="loud"):
        model.separate_file(path, normalize="loud")


@pytest.mark.parametrize("normalize", inference.NORMALIZATIONS)
def test_a_silent_file_gives_silence(model, tmp_path, normalize):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(4000), 8000)
    voices = model.separate_file(path, normalize=normalize)
    assert voices.shape == (1, 4000, 2)
    assert (voices == 0).all()


def test_a_file_of_one_sample(model, tmp_path):
    path = tmp_path / "click.wav"
    soundfile.write(path, np.array([0.5]), 8000)
    assert model.separate_file(path).shape == (1, 1, 2)


@pytest.mark.parametrize("problem", ["missing", "empty", "text", "none", "nan"])
def test_a_bad_file_is_named(model, tmp_path, problem):
    path = tmp_path / "bad.wav"
    if problem == "empty":
        path.write_bytes(b"")
    elif problem == "text":
        path.write_text("no audio at all, but text of some length " * 9)
    elif problem == "none":
        soundfile.write(path, np.zeros(0), 8000)
    elif problem == "nan":
        soundfile.write(path, np.full(9, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(InputError, match="bad.wav"):
        model.separate_file(path)


def test_a_real_recording_at_another_rate(model, mini_speech):
    path = next((mini_speech / "speech" / "test").rglob("*.ogg"))
    num_frames = soundfile.info(path).frames
    voices = model.separate_file(path)
    assert voices.shape == (1, -(-num_frames // 2), 2)
    assert voices.abs().amax(1).tolist() == [[1, 1]]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("with_savedir", [False, True])
def test_a_second_file_of_one_name_is_not_the_first(
    model, tmp_path, with_savedir
):
    signals = {"a": mixture(), "b": mixture(6000)}
    for name, signal in signals.items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / "mix.wav"
        soundfile.write(path, signal[0].numpy(), 8000, subtype="FLOAT")
    savedir = tmp_path / "kept" if with_savedir else None
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            for name, signal in signals.items():
                for place in (tmp_path, address):
                    voices = model.separate_file(
                        f"{place}/{name}/mix.wav", savedir, normalize="none"
                    )
                    assert torch.equal(voices, model.separate_batch(signal))
            with pytest.raises(InputError, match="nosuch.wav"):
                model.separate_file(f"{address}/nosuch.wav", savedir)
        finally:
            server.shutdown()


def test_gradients_flow_when_parameters_are_not_frozen(folders):
    model = S4MSeparation.from_hparams(folders["s4m"], freeze_params=False)
    model.separate_batch(mixture()).square().sum().backward()
    assert all(p.grad is not None for p in model.mods.encoder.parameters())


def test_overrides_reach_the_yaml(folders):
    model = S4MSeparation.from_hparams(
        folders["s4m"], overrides={"sample_rate": 16000}
    )
    assert model.hparams.sample_rate == 16000


def test_a_training_starts_from_a_model(folders, model):
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


def test_rounding_noise_of_16_bits_is_not_brought_to_full_scale():
    # An anti-phase stereo file leaves this when it is mixed down.
    dither = torch.randint(-1, 2, (1, 8000)) / 2**15
    voices = torch.stack([dither, dither.flip(1)], dim=2)
    assert normalize_voices(voices, dither, "peak").abs().max() < 1e-4
