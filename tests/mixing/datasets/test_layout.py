"""Folders of data sets, and what lies in them."""

import pytest
import torch

from s4m_sb.mixing.corpus import Utterance
from s4m_sb.mixing.datasets.layout import folders, signals
from s4m_sb.mixing.plans import MixturePlan, NoisePlan, Piece, SourcePlan
from s4m_sb.mixing.rendering import Mixture, add
from s4m_sb.mixing.rooms import Room


def mixture_of(num_spks, with_noise, in_room):
    pieces = (Piece(Utterance("a.wav", "anna", 100, 8000), 0, 100),)
    room = None
    if in_room:
        places = tuple((1.0 + n, 1.0, 1.0) for n in range(num_spks))
        room = Room((8.0, 8.0, 3.0), (4.0, 4.0, 1.0), places, 0.3)
    plan = MixturePlan(
        (SourcePlan(pieces, -20.0),) * num_spks,
        8000,
        NoisePlan(pieces, 0.0) if with_noise else None,
        room,
    )
    sources = torch.randn(100, num_spks)
    images = torch.randn(100, num_spks) if in_room else sources
    noise = torch.randn(100) if with_noise else None
    return Mixture(add(images, noise), sources, images, noise, plan)


@pytest.mark.parametrize("num_spks", [2, 3])
def test_speech_alone_is_as_in_wsj0_mix(num_spks):
    made = mixture_of(num_spks, with_noise=False, in_room=False)
    found = signals(made)
    assert list(found) == ["mix", "s1", "s2", "s3"][: num_spks + 1]
    assert torch.equal(found["mix"], made.mixture)
    assert torch.equal(found["s2"], made.sources[:, 1])


# The folders of the official data sets, written out.
WHAM = {"mix_clean", "mix_both", "mix_single", "s1", "s2", "noise"}
WHAMR = {
    "mix_clean_anechoic",
    "mix_clean_reverb",
    "mix_both_anechoic",
    "mix_both_reverb",
    "mix_single_anechoic",
    "mix_single_reverb",
    "s1_anechoic",
    "s1_reverb",
    "s2_anechoic",
    "s2_reverb",
    "noise",
}


def test_noise_is_as_in_wham():
    made = mixture_of(2, with_noise=True, in_room=False)
    found = signals(made)
    assert set(found) == WHAM
    s1, s2, noise = (found[name] for name in ("s1", "s2", "noise"))
    assert torch.equal(found["mix_clean"], s1 + s2)
    assert torch.equal(found["mix_both"], s1 + s2 + noise)
    assert torch.equal(found["mix_single"], s1 + noise)
    assert torch.equal(found["mix_both"], made.mixture)
    assert torch.equal(noise, made.noise)


@pytest.mark.parametrize("with_noise", [True, False])
def test_rooms_are_as_in_whamr(with_noise):
    made = mixture_of(2, with_noise, in_room=True)
    found = signals(made)
    if with_noise:
        assert set(found) == WHAMR
    else:
        assert set(found) == {
            name for name in WHAMR if name.startswith(("mix_clean", "s1", "s2"))
        }
    for suffix, parts in (
        ("anechoic", made.sources),
        ("reverb", made.images),
    ):
        s1, s2 = found[f"s1_{suffix}"], found[f"s2_{suffix}"]
        assert torch.equal(s1, parts[:, 0]) and torch.equal(s2, parts[:, 1])
        assert torch.equal(found[f"mix_clean_{suffix}"], s1 + s2)
        if with_noise:
            noise = found["noise"]
            assert torch.equal(found[f"mix_both_{suffix}"], s1 + s2 + noise)
            assert torch.equal(found[f"mix_single_{suffix}"], s1 + noise)
    heard = "mix_both_reverb" if with_noise else "mix_clean_reverb"
    assert torch.equal(found[heard], made.mixture)


def test_one_speaker_in_noise():
    found = signals(mixture_of(1, with_noise=True, in_room=False))
    assert list(found) == ["mix_clean", "mix_both", "mix_single", "s1", "noise"]
    assert torch.equal(found["mix_single"], found["s1"] + found["noise"])


def test_the_folders_are_known_without_a_mixture():
    for num_spks in (1, 2, 3):
        for noise in (False, True):
            for reverb in (False, True):
                made = mixture_of(num_spks, noise, reverb)
                assert list(folders(num_spks, noise, reverb)) == list(
                    signals(made)
                )
