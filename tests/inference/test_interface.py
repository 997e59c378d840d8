"""The interface: every way in, every length, every level, every mistake."""

import functools
import http.server
import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from small_model import SEPFORMER, write_model
from speech_like import speak
from speechbrain.inference.separation import SepformerSeparation

from s4m_sb.audio.files import audio_info, read_audio
from s4m_sb.audio.stream import WavWriter
from s4m_sb.errors import InputError
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.levels import (
    NORMALIZATIONS,
    bring_to_level,
    normalize_voices,
)
from s4m_sb.inference.pieces import Pieces
from s4m_sb.metrics import pairwise_si_snr, pit_si_snr, si_snr
from s4m_sb.network.separate import separate

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


def mixture(num_frames=8000, sample_rate=8000, num_items=1):
    items = [
        speak(2 * i, 0, num_frames / sample_rate, sample_rate)
        + speak(2 * i + 1, 0, num_frames / sample_rate, sample_rate)
        for i in range(num_items)
    ]
    return 0.4 * torch.from_numpy(np.stack(items))  # [B, T]


@pytest.fixture
def recording(tmp_path):
    """Ten seconds of two talkers, stereo at 16 kHz."""
    signal = mixture(160000, 16000)[0].numpy()
    path = tmp_path / "recording.flac"
    soundfile.write(path, np.stack([signal, 0.5 * signal], 1), 16000)
    return path


# Batches


def test_a_batch_goes_the_one_forward_path(model):
    mix = mixture(num_items=2)
    levelled, scale = bring_to_level(mix)
    with torch.no_grad():
        expected = scale * separate(
            levelled, None, *(model.mods[k] for k in model.MODULES_NEEDED)
        )
    ours = model.separate_batch(mix)
    assert torch.equal(ours, expected)
    assert not ours.requires_grad
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


def test_half_precision_is_close(model, folders):
    half = S4MSeparation.from_hparams(
        folders["s4m"], run_opts={"precision": "bf16"}
    )
    exact = model.separate_batch(mixture())
    rounded = half.separate_batch(mixture())
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    # 8 bits are 48 dB; a network of some ten layers adds to that
    assert si_snr(estimate=rounded, target=exact).min() > 25


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
    levelled, _ = bring_to_level(mixture())
    soundfile.write(path, levelled[0].numpy(), 8000, subtype="FLOAT")
    for name in ("s4m", "sepformer"):
        theirs = SepformerSeparation.from_hparams(str(folders[name]))
        ours = S4MSeparation.from_hparams(folders[name])
        # At the level that ours brings every mixture to.
        mix, _ = bring_to_level(mixture(num_items=2))
        # the masks are applied and decoded source by source there
        torch.testing.assert_close(
            ours.separate_batch(mix),
            theirs.separate_batch(mix),
            atol=1e-5,
            rtol=1e-5,
        )
        # the same after peak normalization, which amplifies both alike
        torch.testing.assert_close(
            ours.separate_file(str(path), normalize="peak"),
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


def level_of(voices, target):
    """SNR of voices against what they should be, in dB."""
    error = (voices.double() - target.double()).square().sum()
    return float(10 * torch.log10(target.double().square().sum() / error))


@pytest.mark.parametrize("pieces", [None, Pieces(0.3)])
@pytest.mark.parametrize(
    ("gain", "least_db"),
    # what float32 has of digits, and of fewer below 1e-38
    [(1e-6, 90), (0.01, 90), (1e6, 90), (1e20, 90), (1e-30, 90), (1e-38, 40)],
)
def test_the_level_does_not_matter(gain, least_db, pieces):
    model = S4MSeparation.from_hparams()
    mix = mixture()
    expected = model.separate_batch(mix, pieces=pieces)
    found = model.separate_batch(gain * mix, pieces=pieces).double() / gain
    assert level_of(found, expected) > least_db


def test_each_item_of_a_batch_has_its_own_level(model):
    mix = mixture(num_items=3) * torch.tensor([[1e-6], [1.0], [1e6]])
    lengths = torch.tensor([1.0, 0.7, 0.4])
    voices = model.separate_batch(mix, lengths)
    for item, count in enumerate([8000, 5600, 3200]):
        alone = model.separate_batch(mix[item, :count])[0]
        # float32 sums over more frames
        assert level_of(voices[item, :count], alone) > 90


def test_a_part_of_a_recording_has_its_own_level(model):
    """A whisper of -100 dB beside speech comes out as it does alone."""
    mix = torch.cat([mixture(16000)[0], 1e-5 * mixture(16000)[0]])
    pieces = Pieces(1, 0.25)
    voices = model.separate_batch(mix, pieces=pieces)[0, 24000:]
    alone = model.separate_batch(mix[16000:], pieces=pieces)[0, 8000:]
    error = (
        min((voices - order).norm() for order in (alone, alone.flip(1)))
        / alone.norm()
    )
    # other pieces, whose networks see other neighbours
    assert error < 0.1


@pytest.mark.parametrize("offset", [0.02, 1.0])
def test_a_mean_does_not_matter(offset):
    model = S4MSeparation.from_hparams()
    mix = mixture()
    expected = model.separate_batch(mix - mix.mean())
    found = model.separate_batch(mix + offset)
    # what float32 has of digits beside the mean
    assert level_of(found, expected) > 80


@pytest.mark.parametrize("gain", [1e-6, 1e20])
@pytest.mark.parametrize("chunk_s", [None, 0.3])
def test_the_voices_of_a_file_are_those_of_any_level(
    model, tmp_path, gain, chunk_s
):
    for name, factor in (("one", 1), ("other", gain)):
        samples = factor * mixture()[0].numpy() + 0.1 * factor
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000, "FLOAT")
    one, other = (
        model.separate_file(tmp_path / f"{name}.wav", chunk_s=chunk_s)
        for name in ("one", "other")
    )
    assert level_of(other.double() / gain, one) > 80


def test_the_voices_of_a_file_sum_to_it_with_their_signs(tmp_path):
    model = S4MSeparation.from_hparams()
    target = torch.stack(
        [torch.from_numpy(speak(i, 0, 3.0, 8000)) for i in (0, 1)], dim=1
    )
    path = tmp_path / "mix.wav"
    soundfile.write(path, 0.3 * target.sum(1).numpy(), 8000, "FLOAT")
    mix, _ = read_audio(path)
    voices = model.separate_file(path)[0]
    left = mix - voices.sum(1)
    assert left.norm() < 0.5 * mix.norm()
    # Whoever subtracts a voice has less, not more.
    for voice in voices.unbind(1):
        assert (mix - voice).norm() < mix.norm()


# What people try first


def test_arrays_are_as_good_as_tensors(model):
    mix = mixture(num_items=2)
    lengths = torch.tensor([1.0, 0.5])
    expected = model.separate_batch(mix, lengths)
    for dtype in (np.float32, np.float64):
        found = model.separate_batch(
            mix.numpy().astype(dtype), lengths.numpy().astype(dtype)
        )
        assert torch.equal(found, expected)
    alone = model.separate_batch(mix[0].numpy())
    assert torch.equal(alone, model.separate_batch(mix[0]))


@pytest.mark.parametrize("pieces", [None, Pieces(1)])
def test_of_nothing_the_voices_are_nothing(model, pieces):
    voices = model.separate_batch(torch.zeros(0, 100), pieces=pieces)
    assert voices.shape == (0, 100, 2)


@pytest.mark.parametrize("pieces", [None, Pieces(0.5)])
def test_an_open_file_is_as_good_as_a_name(model, recording, pieces):
    expected = model.separate_file(recording, pieces=pieces)
    with recording.open("rb") as file:
        assert torch.equal(model.separate_file(file, pieces=pieces), expected)
    stream = io.BytesIO(recording.read_bytes())
    assert torch.equal(model.separate_file(stream, pieces=pieces), expected)


def test_what_is_no_file_is_refused(model, recording):
    for wrong in (torch.zeros(99), 7, None):
        with pytest.raises(InputError, match="give the name of a file"):
            model.separate_file(wrong)
    with pytest.raises(InputError, match="stream: cannot be read as audio"):
        model.separate_file(io.BytesIO(b"no audio " * 99))
    with pytest.raises(InputError, match="stream: is text"):
        model.separate_file(io.StringIO("no audio"))
    for wrong in ("mix.wav", None, [["a"]]):
        with pytest.raises(InputError, match="give a tensor or an array"):
            model.separate_batch(wrong)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([8000, 4000], "0 to 1"),
        ([1.0, float("nan")], "0 to 1"),
        ([1.0, -0.5], "0 to 1"),
        ([1.0, 1.01], "0 to 1"),
        ([1.0], "one each"),
        ([1.0, 1.0, 1.0], "one each"),
        ([[1.0, 1.0]], "one each"),
        (["a", "b"], "lengths is a list"),
    ],
)
@pytest.mark.parametrize("pieces", [None, Pieces(0.5)])
def test_lengths_that_are_none_are_refused(model, lengths, message, pieces):
    with pytest.raises(InputError, match=message):
        model.separate_batch(mixture(num_items=2), lengths, pieces)


def test_a_length_may_be_rounded(model):
    mix = mixture(num_items=2)
    lengths = torch.tensor([1 + 1e-7, 1.0])
    assert torch.equal(
        model.separate_batch(mix, lengths),
        model.separate_batch(mix, torch.ones(2)),
    )


def test_a_model_that_is_moved_knows_where_it_is(folders):
    model = S4MSeparation.from_hparams(folders["s4m"])
    assert model.to("meta") is model
    assert (model.device, model.device_type) == ("meta", "meta")
    assert "device=meta" in repr(model)


def test_other_numbers_work_or_are_refused(folders):
    model = S4MSeparation.from_hparams(folders["s4m"])
    expected = model.separate_batch(mixture())
    exact = model.double().separate_batch(mixture())
    assert exact.dtype == torch.float64
    assert level_of(expected, exact) > 90
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(InputError, match="precision"):
            model.to(dtype).separate_batch(mixture())


def test_voices_that_are_no_numbers_are_refused(folders):
    model = S4MSeparation.from_hparams(folders["s4m"])
    with torch.no_grad():
        next(model.mods.decoder.parameters()).fill_(float("inf"))
    with pytest.raises(InputError, match="voices are NaN"):
        model.separate_batch(mixture())


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
        model.separate_file(path),
        model.separate_file(path, normalize="mixture"),
    )
    with pytest.raises(InputError, match="loud"):
        model.separate_file(path, normalize="loud")


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
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
    voices = model.separate_file(path, normalize="peak")
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


# Pieces


def test_one_piece_is_the_whole(model, recording):
    mix, _ = read_audio(recording, 8000)
    whole = model.separate_batch(mix)
    pieces = Pieces(chunk_s=10, overlap_s=1)
    assert torch.equal(model.separate_batch(mix, pieces=pieces), whole)
    for normalize in NORMALIZATIONS:
        torch.testing.assert_close(
            model.separate_file(recording, normalize=normalize, pieces=pieces),
            model.separate_file(recording, normalize=normalize),
            # float32 rounding of the resampling, amplified with the voices
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("num_frames", [1, 7999, 8000, 8001, 14001, 33333])
def test_pieces_have_the_length_of_the_whole(model, num_frames):
    mix = torch.randn(2, num_frames)
    voices, in_threes = (
        model.separate_batch(mix, pieces=Pieces(1, 0.25, batch_size))
        for batch_size in (1, 3)
    )
    assert voices.shape == (2, num_frames, 2)
    # float32 sums over other batches
    torch.testing.assert_close(in_threes, voices, atol=1e-5, rtol=1e-4)


def test_items_in_pieces_are_what_they_are_alone(model):
    mix = torch.randn(3, 20000)
    lengths = torch.tensor([1.0, 0.4, 0.85])
    voices = model.separate_batch(mix, lengths, chunk_s=1)
    for item, count in enumerate([20000, 8000, 17000]):
        alone = model.separate_batch(mix[item, :count], chunk_s=1)
        assert torch.equal(voices[item, :count], alone[0])
        assert not voices[item, count:].any()


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_file_from_disk_to_disk(model, recording, tmp_path, normalize):
    options = {"pieces": Pieces(2, 0.5), "normalize": normalize}
    expected = model.separate_file(recording, **options)
    assert expected.shape == (1, 80000, 2)
    outputs = [tmp_path / "voices" / f"{i}.wav" for i in range(2)]
    model.separate_to_files(recording, outputs, **options)
    for i, output in enumerate(outputs):
        voice, sample_rate = read_audio(output)
        assert sample_rate == 8000
        assert torch.equal(voice, expected[0, :, i])
    assert sorted((tmp_path / "voices").iterdir()) == outputs
    mix, _ = read_audio(recording, 8000)
    in_memory = model.separate_batch(mix, pieces=options["pieces"])
    torch.testing.assert_close(
        expected,
        normalize_voices(in_memory, mix[None], normalize),
        # float32 rounding of the resampling, amplified with the voices
        atol=1e-4,
        rtol=1e-4,
    )


def test_half_a_recording_leaves_no_voices(model, recording, tmp_path):
    samples, _ = soundfile.read(recording)
    samples[150000] = np.nan
    broken = tmp_path / "broken.wav"
    soundfile.write(broken, samples, 16000, subtype="FLOAT")
    outputs = [tmp_path / "voices" / f"{i}.wav" for i in range(2)]
    with pytest.raises(InputError, match="broken.wav: holds NaN"):
        model.separate_to_files(broken, outputs, pieces=Pieces(1))
    assert list((tmp_path / "voices").iterdir()) == []
    with pytest.raises(InputError, match="broken.wav: holds NaN"):
        model.separate_file(broken, chunk_s=1)


def test_pieces_are_said_once(model, recording):
    mix, _ = read_audio(recording, 8000)
    pieces = Pieces(chunk_s=2)
    assert torch.equal(
        model.separate_batch(mix, chunk_s=2),
        model.separate_batch(mix, pieces=pieces),
    )
    assert torch.equal(
        model.separate_file(recording, chunk_s=2),
        model.separate_file(recording, pieces=pieces),
    )
    for call, given in (
        (model.separate_batch, mix),
        (model.separate_file, recording),
    ):
        with pytest.raises(InputError, match="pieces or chunk_s, not both"):
            call(given, pieces=pieces, chunk_s=2)
        with pytest.raises(InputError, match="pieces of 0 s"):
            call(given, chunk_s=0)


def test_an_unknown_level_is_refused_before_any_work(model, tmp_path):
    nothing = tmp_path / "nothing.wav"
    outputs = [tmp_path / f"{i}.wav" for i in range(2)]
    with pytest.raises(InputError, match="loud"):
        model.separate_file(nothing, normalize="loud")
    with pytest.raises(InputError, match="loud"):
        model.separate_to_files(nothing, outputs, normalize="loud")


def test_every_voice_needs_a_file(model, recording, tmp_path):
    with pytest.raises(InputError, match="1 outputs for the 2 voices"):
        model.separate_to_files(recording, [tmp_path / "one.wav"])


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux tells the peak"
)


def growth_of_memory(folder, model, call):
    """Bytes more that a call takes for six minutes than for one."""
    generator = torch.Generator().manual_seed(0)
    for minutes in (1, 6):
        with WavWriter(folder / f"{minutes}.wav", 16000) as writer:
            for _ in range(minutes):
                writer.write(0.1 * torch.randn(60 * 16000, generator=generator))
    program = f"""
import re
from s4m_sb.inference.interface import S4MSeparation
from s4m_sb.inference.pieces import Pieces
model = S4MSeparation.from_hparams({str(model)!r})
# One minute twice: what the first recording leaves behind is no growth.
for name in ("{folder}/1", "{folder}/1", "{folder}/6"):
    {call}
    # Not `ru_maxrss`, in which this process would begin with its parent's.
    print(*re.findall(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    _, short, long = map(int, result.stdout.split())  # KiB
    return 1024 * (long - short)


# Five more minutes are 10 MB as mixture and 19 MB as voices.
VOICES_BYTES = 4 * 2 * 300 * 8000


@needs_proc
def test_memory_does_not_grow_with_the_recording(folders, tmp_path):
    outputs = "[name + '_1.wav', name + '_2.wav']"
    pieces = "Pieces(10, batch_size=1)"
    call = f"model.separate_to_files(name + '.wav', {outputs}, pieces={pieces})"
    assert growth_of_memory(tmp_path, folders["s4m"], call) < 5e6
    assert audio_info(tmp_path / "6_2.wav").num_frames == 360 * 8000


@needs_proc
def test_of_what_is_kept_the_voices_alone_grow(folders, tmp_path):
    call = "model.separate_file(name + '.wav', pieces=Pieces(10, batch_size=1))"
    growth = growth_of_memory(tmp_path, folders["s4m"], call)
    assert abs(growth - VOICES_BYTES) < 5e6


def test_pieces_carry_no_graph(folders):
    model = S4MSeparation.from_hparams(folders["s4m"], freeze_params=False)
    mix = torch.randn(1, 16000)
    assert model.separate_batch(mix).requires_grad
    assert not model.separate_batch(mix, chunk_s=1).requires_grad


def two_talkers(mini_speech, names, duration_s):
    """References [T, 2] from a test speaker's utterances, one after another."""
    num_frames = duration_s * 8000
    talkers = []
    for name in names:
        folder = mini_speech / "speech" / "test" / name
        speech = torch.cat(
            [read_audio(path, 8000)[0] for path in sorted(folder.iterdir())]
        )
        speech = speech.repeat(-(-num_frames // len(speech)))[:num_frames]
        talkers.append(0.05 * speech / speech.square().mean().sqrt())
    return torch.stack(talkers, dim=1)


# The shipped model mistakes some talkers for one another within a piece, as its
# card says. These it tells apart, so that pieces must not mix them up.
@pytest.mark.parametrize("pauses_s", [(), (20, 50), (25, 60)])
@pytest.mark.parametrize(
    "names, chunk_s, overlap_s",
    [(("ls1688", "ls1998"), 30, 4), (("ls2033", "ls533"), 8, 2)],
)
def test_real_voices_stay_apart_over_90_s(
    mini_speech, monkeypatch, names, chunk_s, overlap_s, pauses_s
):
    target = two_talkers(mini_speech, names, 90)
    for start_s in pauses_s:
        target[start_s * 8000 : (start_s + 10) * 8000] = 0
    mix = target.sum(1)
    model = S4MSeparation.from_hparams()
    separate_batch = model.separate_batch
    generator = torch.Generator().manual_seed(1)

    def permute(mix, **options):
        voices = separate_batch(mix, **options)
        if options:
            return voices
        orders = [torch.randperm(2, generator=generator) for _ in voices]
        return torch.stack(
            [
                voice[:, order]
                for voice, order in zip(voices, orders, strict=True)
            ]
        )

    monkeypatch.setattr(model, "separate_batch", permute)
    pieces = Pieces(chunk_s, overlap_s)
    voices = model.separate_batch(mix, pieces=pieces)[0]
    _, order = pit_si_snr(estimate=voices[None], target=target[None])
    voices = voices[:, order[0]]
    for start in range(0, len(mix) - 8 * 8000 + 1, 6 * 8000):
        piece = slice(start, start + 8 * 8000)
        if not target[piece].any():
            continue
        values = pairwise_si_snr(
            estimate=voices[None, piece], target=target[None, piece]
        )[0]
        assert values.diagonal().sum() > values.fliplr().diagonal().sum()


def test_a_long_file_shows_how_far_it_is(model, recording, capsys):
    model.separate_file(recording, chunk_s=2, progress=True)
    shown = capsys.readouterr().err
    assert "recording.flac: " in shown
    assert " of 10 s" in shown
    model.separate_file(recording, chunk_s=2)
    assert capsys.readouterr().err == ""
