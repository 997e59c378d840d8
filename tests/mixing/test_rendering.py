"""A mixture is the sum of its images and its noise, at the planned levels."""

import dataclasses
import itertools
import pickle

import data_sets
import numpy as np
import pytest
import soundfile
import torch
from small_rooms import SmallRooms
from torchaudio.functional import loudness

from s4m_sb.errors import InputError
from s4m_sb.mixing.coloration import channel_response
from s4m_sb.mixing.conversation import Conversation
from s4m_sb.mixing.corpus import read_corpus
from s4m_sb.mixing.rendering import PEAK, add, mix, render
from s4m_sb.mixing.rooms import room_responses
from s4m_sb.mixing.script import LEAST_SPEECH

RATE = 8000
SURROUNDINGS = list(itertools.product([False, True], [False, True]))


@pytest.fixture(scope="module")
def make(speech_folder, tmp_path_factory):
    """Drawers over the speech of the tests and coloured noise."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(3)
    for number in range(3):
        noise = np.cumsum(rng.standard_normal(6000)) * 0.9 ** np.arange(6000)
        noise = 0.1 * rng.standard_normal(6000) + 0.01 * noise
        soundfile.write(folder / f"{number}.wav", noise, RATE)
    corpus = read_corpus(folder, speaker_from="file", kind="noise")

    def make_drawer(
        noise=False, rooms=False, num_spks=2, segment_s=0.6, **options
    ):
        return data_sets.make_drawer(
            read_corpus(speech_folder, "train"),
            num_spks,
            RATE,
            segment_s=segment_s,
            join_short=True,
            noise=corpus if noise else None,
            rooms=SmallRooms(num_spks, RATE) if rooms else None,
            **options,
        )

    return make_drawer


def draws(drawer, count=6):
    return [drawer.draw(np.random.default_rng([2, i])) for i in range(count)]


def in_order(drawn):
    """The images one after the other, then the noise."""
    total = drawn.images[:, 0]
    for image in drawn.images.unbind(1)[1:]:
        total = total + image
    return total if drawn.noise is None else total + drawn.noise


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
@pytest.mark.parametrize("num_spks", [2, 3])
@pytest.mark.parametrize("filter_range_db", [None, (-6, 6)])
def test_a_mixture_is_the_sum_of_its_parts(
    make, noise, rooms, num_spks, filter_range_db
):
    drawer = make(noise, rooms, num_spks, filter_range_db=filter_range_db)
    for drawn in draws(drawer):
        assert torch.equal(drawn.mixture, in_order(drawn))
        assert noise == (drawn.noise is not None)
        assert torch.equal(drawn.images, drawn.sources) != rooms


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
@pytest.mark.parametrize("filter_range_db", [None, (-6, 6)])
def test_a_plan_makes_the_same_samples_again(
    make, noise, rooms, filter_range_db
):
    drawer = make(noise, rooms, filter_range_db=filter_range_db)
    for drawn in draws(drawer, 3):
        plan = pickle.loads(pickle.dumps(drawn.plan))
        torch.set_num_threads(2)
        try:
            again = render(plan)
        finally:
            torch.set_num_threads(1)
        assert torch.equal(again.mixture, drawn.mixture)
        assert torch.equal(again.sources, drawn.sources)
        assert torch.equal(again.images, drawn.images)
        assert noise == (again.noise is not None)
        if noise:
            assert torch.equal(again.noise, drawn.noise)


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS[1:])
def test_the_speech_does_not_depend_on_what_surrounds_it(make, noise, rooms):
    for plain, drawn in zip(
        draws(make()), draws(make(noise, rooms)), strict=True
    ):
        assert drawn.plan.sources == plain.plan.sources
        if not rooms:
            gain = drawn.sources.abs().max() / plain.sources.abs().max()
            torch.testing.assert_close(
                drawn.sources,
                gain * plain.sources,
                rtol=0,
                atol=1e-6,  # float32, two orders of scaling
            )


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
def test_nothing_but_the_channel_depends_on_the_channel(make, noise, rooms):
    for plain, drawn in zip(
        draws(make(noise, rooms)),
        draws(make(noise, rooms, filter_range_db=(-6, 6))),
        strict=True,
    ):
        assert all(len(source.filter_db) == 6 for source in drawn.plan.sources)
        sources = tuple(
            dataclasses.replace(source, filter_db=())
            for source in drawn.plan.sources
        )
        assert dataclasses.replace(drawn.plan, sources=sources) == plain.plan
        assert torch.equal(
            render(dataclasses.replace(drawn.plan, sources=sources)).mixture,
            plain.mixture,
        )


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
def test_some_mixtures_are_quiet_and_some_dry(make, noise, rooms):
    def count(probability):
        chances = {
            "noise_probability": probability if noise else 1,
            "room_probability": probability if rooms else 1,
        }
        drawer = make(noise, rooms, segment_s=0.05, **chances)
        drawn = draws(drawer, 40)
        for one in drawn:
            assert (one.noise is None) == (one.plan.noise is None)
            dry = torch.equal(one.images, one.sources)
            assert dry == (one.plan.room is None)
        return (
            sum(one.noise is not None for one in drawn),
            sum(one.plan.room is not None for one in drawn),
        )

    assert count(1) == (40 * noise, 40 * rooms)
    assert count(0) == (0, 0)
    # Half of 40, to three deviations of 3.2
    for number, there in zip(count(0.5), (noise, rooms), strict=True):
        assert number == (pytest.approx(20, abs=10) if there else 0)


def test_what_happens_by_chance_leaves_the_speech(make):
    chances = {"noise_probability": 0.5, "room_probability": 0.5}
    for plain, drawn in zip(
        draws(make()), draws(make(True, True, **chances)), strict=True
    ):
        assert drawn.plan.sources == plain.plan.sources


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
def test_whatever_is_summed_stays_below_the_peak(make, noise, rooms):
    for drawn in draws(make(noise, rooms)):
        signals = []
        for parts in (drawn.sources, drawn.images):
            signals += [*parts.unbind(1), add(parts, None)]
            if noise:
                signals += [drawn.noise, add(parts, drawn.noise)]
                signals += [parts[:, 0] + drawn.noise]
        loudest = max(float(signal.abs().max()) for signal in signals)
        assert loudest == pytest.approx(PEAK, rel=1e-6)  # float32


def loudness_db(signal):
    """At a quarter of its level: torchaudio's filters clip at 1."""
    return float(loudness(0.25 * signal[None], RATE)) + 12.0412


@pytest.mark.parametrize("rooms", [False, True])
def test_the_noise_has_its_level(make, rooms):
    for drawn in draws(make(True, rooms)):
        loudest = max(map(loudness_db, drawn.sources.unbind(1)))
        assert loudest - loudness_db(drawn.noise) == pytest.approx(
            drawn.plan.noise.snr_db,
            abs=1e-3,  # float32 filters, in dB
        )


def test_a_click_has_a_level(make):
    # All blocks of it are below the gate for silence.
    drawn = draws(make(True), 1)[0]
    click = torch.zeros(len(drawn.noise))
    click[100] = 1.0
    signals = list(drawn.sources.unbind(1))
    mixture = mix(drawn.plan, signals, 1e-3 * click)
    assert mixture.noise.isfinite().all() and mixture.noise.any()
    assert torch.equal(mix(drawn.plan, signals, click).noise, mixture.noise)


def test_short_noise_has_a_level_too(make):
    # ITU-R BS.1770 knows nothing shorter than 0.4 s.
    for drawn in draws(make(True, segment_s=0.05)):
        assert drawn.noise.isfinite().all() and drawn.noise.any()
        ratio = drawn.sources.square().sum(0).max() / drawn.noise.square().sum()
        snr_db = 10 * float(torch.log10(ratio))
        # Loudness weighs frequencies, power does not: by some dB at most.
        assert snr_db == pytest.approx(drawn.plan.noise.snr_db, abs=8)


@pytest.mark.parametrize("filter_range_db", [None, (-12, 12)])
def test_the_direct_sound_has_the_planned_level(make, filter_range_db):
    drawer = make(True, True, num_spks=3, filter_range_db=filter_range_db)
    for drawn in draws(drawer):
        levels = [
            20 * float(source.abs().mean().log10())
            for source in drawn.sources.unbind(1)
        ]
        planned = [source.level_db for source in drawn.plan.sources]
        for i in (1, 2):
            assert levels[i] - levels[0] == pytest.approx(
                planned[i] - planned[0],
                abs=1e-4,  # float32 means, in dB
            )


def test_a_room_convolves_each_source_with_its_response(make):
    plain, reverberant = draws(make(), 1)[0], draws(make(rooms=True), 1)[0]
    responses = room_responses(reverberant.plan.room, RATE)
    T = len(plain.mixture)
    for number in range(2):
        dry = plain.sources[:, number].double().numpy()
        for response, made in (
            (responses.direct, reverberant.sources),
            (responses.reverberant, reverberant.images),
        ):
            wet = np.convolve(dry, response[number].double().numpy())[:T]
            wet = torch.from_numpy(wet)
            made = made[:, number].double()
            # One gain for both: that of the direct sound.
            if response is responses.direct:
                gain = made.norm() / wet.norm()
            torch.testing.assert_close(
                made,
                gain * wet,
                rtol=0,
                atol=2e-6,  # float32 FFT of sums below 1
            )


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
def test_a_target_has_come_through_the_channel_drawn(make, noise, rooms):
    plain = draws(make(noise, rooms))
    filtered = draws(make(noise, rooms, filter_range_db=(-9, 9)))
    for before, after in zip(plain, filtered, strict=True):
        T = len(before.mixture)
        for number, source in enumerate(after.plan.sources):
            response = channel_response(source.filter_db, RATE).double().numpy()
            gains = []
            for dry, made in (
                (before.sources, after.sources),
                (before.images, after.images),
            ):
                # Channel and room may change places, at the cut end alone.
                heard = np.convolve(dry[:, number].double().numpy(), response)
                heard = torch.from_numpy(heard[:T])
                made = made[:, number].double()
                gains.append(float(made.norm() / heard.norm()))
                torch.testing.assert_close(
                    made,
                    gains[-1] * heard,
                    rtol=0,
                    atol=1e-5,  # float32 FFT of sums below 1
                )
            assert gains[0] == pytest.approx(gains[1], rel=1e-5)  # float32


def test_a_click_shows_the_gains_drawn(tmp_path):
    # What comes out of a channel for a click is its response.
    for name, at in (("a", 100), ("b", 300)):
        click = np.zeros(4000)
        click[at] = 0.5
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "click.wav", click, RATE)
    drawer = data_sets.make_drawer(
        read_corpus(tmp_path), 2, RATE, silence_db=-200, filter_range_db=(-6, 6)
    )
    (drawn,) = draws(drawer, 1)
    for plan, target in zip(
        drawn.plan.sources, drawn.sources.unbind(1), strict=True
    ):
        at = {"a": 100, "b": 300}[plan.speaker]
        assert target[:at].abs().max() < 1e-6  # float32 FFT: no echo before it
        spectrum = torch.fft.rfft(target[at : at + 2048].double())
        octaves = [32, 64, 128, 256, 512, 1024]  # 125 Hz to 4 kHz
        measured_db = 20 * spectrum.abs().log10()[octaves]
        measured_db = measured_db - measured_db[0]
        expected_db = torch.tensor(plan.filter_db) - plan.filter_db[0]
        torch.testing.assert_close(
            measured_db.float(),
            expected_db,
            rtol=0,
            atol=1e-4,  # dB, float32 FFT
        )
    assert drawn.plan.sources[0].filter_db != drawn.plan.sources[1].filter_db


def test_parts_of_unequal_length_or_silent_are_refused(make, tmp_path):
    plan = draws(make(noise=True), 1)[0].plan
    (piece,) = plan.noise.pieces[:1]
    short = dataclasses.replace(piece, num_frames=10)
    noise = dataclasses.replace(plan.noise, pieces=(short,))
    with pytest.raises(InputError, match="4800 and 10 samples long"):
        render(dataclasses.replace(plan, noise=noise))
    soundfile.write(tmp_path / "0.wav", np.zeros(4800), RATE)
    silent = read_corpus(tmp_path, speaker_from="file", kind="noise")
    piece = dataclasses.replace(
        piece, utterance=silent.speakers["0"][0], start=0, num_frames=4800
    )
    noise = dataclasses.replace(plan.noise, pieces=(piece,))
    with pytest.raises(InputError, match="0.wav: is silent"):
        render(dataclasses.replace(plan, noise=noise))


# ------------------------------------------------------------ conversations

TURNS = Conversation(turns=1.0, turn_s=(0.25, 0.5), gap_s=(0.1, 0.1), pause=0.1)
KINDS = {
    "turns": TURNS,
    "solo": Conversation(solo=1.0),
    "all": Conversation(solo=0.3, turns=0.4, turn_s=(0.25, 0.5)),
}


def where_he_speaks(drawn):
    """``[T, S]``: true within the turns of the plan."""
    speaks = torch.zeros(drawn.sources.shape, dtype=torch.bool)
    for number, source in enumerate(drawn.plan.sources):
        for begin, end in source.spans:
            speaks[begin:end, number] = True
    return speaks


@pytest.mark.parametrize("noise, rooms", SURROUNDINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_spks", [2, 3])
def test_a_conversation_is_the_sum_of_its_parts(
    make, noise, rooms, kind, num_spks
):
    drawer = make(
        noise,
        rooms,
        num_spks,
        conversation=KINDS[kind],
        filter_range_db=(-6, 6),
        speed_range=(0.9, 1.1),
    )
    for drawn in draws(drawer):
        assert torch.equal(drawn.mixture, in_order(drawn))
        assert noise == (drawn.noise is not None)
        assert len(drawn.mixture) == round(0.6 * RATE)
        again = render(pickle.loads(pickle.dumps(drawn.plan)))
        assert torch.equal(again.mixture, drawn.mixture)
        assert torch.equal(again.sources, drawn.sources)
        assert torch.equal(again.images, drawn.images)


@pytest.mark.parametrize("filter_range_db", [None, (-6, 6)])
@pytest.mark.parametrize("kind", KINDS)
def test_whoever_does_not_speak_is_zero(make, filter_range_db, kind):
    drawer = make(conversation=KINDS[kind], filter_range_db=filter_range_db)
    for drawn in draws(drawer, 20):
        speaks = where_he_speaks(drawn)
        assert not drawn.sources[~speaks].any()
        # There is speech in a turn, though some samples of it are zero.
        assert (drawn.sources[speaks] != 0).float().mean() > LEAST_SPEECH
        if kind == "solo":
            assert speaks.all(dim=0).sum() == 1 == speaks.any(dim=0).sum()
            assert torch.equal(drawn.mixture, drawn.sources[:, speaks[0]][:, 0])


def test_in_a_room_the_image_rings_on(make):
    rang = 0
    for drawn in draws(make(rooms=True, conversation=TURNS), 20):
        responses = room_responses(drawn.plan.room, RATE)
        for number, source in enumerate(drawn.plan.sources):
            dry, wet = drawn.sources[:, number], drawn.images[:, number]
            heard = responses.direct[number].nonzero()
            first, last = int(heard[0]), int(heard[-1])
            assert last - first < 0.011 * RATE  # of the direct sound, a sinc
            for begin, end in source.spans:
                silent_before = not any(
                    begin - len(responses.direct[0]) < other <= begin
                    for _, other in source.spans
                )
                if silent_before:
                    assert not dry[max(0, begin - 200) : begin + first].any()
                    assert not wet[max(0, begin - 200) : begin + first].any()
                alone = not any(
                    end <= other < end + 800 for other, _ in source.spans
                )
                if alone and end + 800 < len(dry):
                    assert not dry[end + last : end + 800].any()
                    rang += int(wet[end + last : end + 400].any())
    assert rang > 5


def test_the_levels_are_those_where_they_speak(make):
    for rooms in (False, True):
        for drawn in draws(make(rooms=rooms, conversation=TURNS), 20):
            spoken = where_he_speaks(drawn).sum(dim=0)
            if not spoken.all():
                continue
            means = drawn.sources.abs().sum(dim=0) / spoken
            measured = 20 * torch.log10(means[1] / means[0])
            planned = [source.level_db for source in drawn.plan.sources]
            assert float(measured) == pytest.approx(
                planned[1] - planned[0],
                abs=1e-3,  # float32 sums, in dB
            )


def test_speech_is_faded_where_it_begins_and_ends(make):
    for drawn in draws(make(conversation=TURNS), 20):
        for number, source in enumerate(drawn.plan.sources):
            signal = drawn.sources[:, number].abs()
            loud = float(signal.max())
            for begin, end in source.spans:
                if begin > 0:
                    assert signal[begin] <= loud / 40
                if end < len(signal):
                    assert signal[end - 1] <= loud / 40


def test_the_noise_is_measured_against_the_loudest_speaker(make):
    for drawn in draws(make(noise=True, conversation=TURNS), 20):
        speech_db = [
            float(loudness(0.25 * signal[None], RATE))  # unclipped by filters
            for signal in drawn.sources.unbind(1)
            if signal.any()
        ]
        noise_db = float(loudness(0.25 * drawn.noise[None], RATE))
        # Both measured at other levels than in rendering, float32.
        assert max(speech_db) - noise_db == pytest.approx(
            drawn.plan.noise.snr_db, abs=0.01
        )
