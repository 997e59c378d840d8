"""One mixture: who speaks, which windows, how loud, and the exact sum."""

import functools
import logging
import pickle
from collections import Counter
from pathlib import Path

import data_sets
import numpy as np
import pytest
import soundfile
import torch

from s4m_sb.errors import InputError
from s4m_sb.mixing.conversation import Conversation
from s4m_sb.mixing.corpus import read_corpus
from s4m_sb.mixing.drawing import (
    FIRST_LEVEL_DB,
    LEVEL_BOUNDS_DB,
    MAX_TRIES,
    OTHER_LEVEL_DB,
)
from s4m_sb.mixing.options import MIN_UTTERANCE_S
from s4m_sb.mixing.plans import MixturePlan
from s4m_sb.mixing.rendering import PEAK, render

RATE = 8000
# Most utterances here are short, so that the tests are.
make_drawer = functools.partial(data_sets.make_drawer, min_utterance_s=0)


def write_speakers(folder, lengths, sample_rate=RATE):
    """Noise of different colour; ``lengths``: samples of each utterance."""
    rng = np.random.default_rng(0)
    for speaker, utterances in lengths.items():
        (folder / speaker).mkdir(parents=True)
        for number, num_frames in enumerate(utterances):
            noise = rng.uniform(-0.3, 0.3, num_frames)
            noise += np.roll(noise, rng.integers(1, 5))
            path = folder / speaker / f"{speaker}{number}.wav"
            soundfile.write(path, noise.astype(np.float32), sample_rate)
    return read_corpus(folder)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    lengths = {"a": [4000, 3000], "b": [5000], "c": [6000], "d": [900] * 5}
    return write_speakers(tmp_path_factory.mktemp("corpus"), lengths)


def draws(drawer, count, seed=0):
    return [drawer.draw(np.random.default_rng([seed, i])) for i in range(count)]


def level_db(signal):
    return 20 * float(signal.abs().mean().log10())


@pytest.mark.parametrize("num_spks", [2, 3, 4])
@pytest.mark.parametrize("speed_range", [None, (0.8, 1.25)])
def test_mixture_is_the_sum_of_its_sources(corpus, num_spks, speed_range):
    drawer = make_drawer(
        corpus, num_spks, RATE, segment_s=0.2, speed_range=speed_range
    )
    for drawn in draws(drawer, 20):
        assert drawn.sources.shape == (len(drawn.mixture), num_spks)
        total = drawn.sources[:, 0]
        for source in drawn.sources.unbind(1)[1:]:
            total = total + source
        assert torch.equal(drawn.mixture, total)


@pytest.mark.parametrize("num_spks", [2, 3, 4])
def test_nobody_talks_to_himself(corpus, num_spks):
    drawer = make_drawer(corpus, num_spks, RATE, segment_s=0.02)
    for drawn in draws(drawer, 100):
        speakers = [source.speaker for source in drawn.plan.sources]
        assert len(set(speakers)) == num_spks
        for source in drawn.plan.sources:
            assert {p.utterance.speaker for p in source.pieces} == {
                source.speaker
            }


def test_the_loudest_signal_has_the_common_peak(corpus):
    for drawn in draws(make_drawer(corpus, 3, RATE), 20):
        peak = max(drawn.mixture.abs().max(), drawn.sources.abs().max())
        assert float(peak) == pytest.approx(PEAK, rel=1e-6)  # float32


def test_levels_are_those_of_the_plan(corpus):
    drawer = make_drawer(corpus, 3, RATE)
    for drawn in draws(drawer, 20):
        planned = [source.level_db for source in drawn.plan.sources]
        measured = [level_db(source) for source in drawn.sources.unbind(1)]
        for i in (1, 2):
            assert measured[i] - measured[0] == pytest.approx(
                planned[i] - planned[0],
                abs=1e-4,  # float32 means, in dB
            )


def test_levels_follow_speechbrains_statistics(corpus):
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.01)
    levels = np.array(
        [
            [source.level_db for source in drawn.plan.sources]
            for drawn in draws(drawer, 1500)
        ]
    )
    assert levels.min() >= LEVEL_BOUNDS_DB[0]
    assert levels.max() <= LEVEL_BOUNDS_DB[1]
    # Four standard errors of 1500 draws: 0.1 of a standard deviation for the
    # mean, 7 % for the deviation itself.
    for values, (mean, deviation) in (
        (levels[:, 0], FIRST_LEVEL_DB),
        (levels[:, 1] - levels[:, 0], OTHER_LEVEL_DB),
    ):
        assert values.mean() == pytest.approx(mean, abs=0.1 * deviation)
        assert values.std() == pytest.approx(deviation, rel=0.07)


def test_relative_levels_fill_their_range(corpus):
    drawer = make_drawer(
        corpus, 2, RATE, segment_s=0.01, level_range_db=(-5.0, 5.0)
    )
    relative = [
        drawn.plan.sources[1].level_db - drawn.plan.sources[0].level_db
        for drawn in draws(drawer, 400)
    ]
    assert -5 <= min(relative) < -4.8 and 4.8 < max(relative) <= 5
    counts, _ = np.histogram(relative, bins=4, range=(-5, 5))
    assert counts.min() > 65  # 100 expected, deviation 8.7


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"segment_s": 0.3},
        {"segment_s": 0.4, "join_short": True},
        {"segment_s": 0.2, "speed_range": [0.8, 1.25]},
    ],
)
def test_a_plan_makes_the_same_samples_again(corpus, keys):
    for drawn in draws(make_drawer(corpus, 3, RATE, **keys), 5):
        again = render(pickle.loads(pickle.dumps(drawn.plan)))
        assert torch.equal(again.mixture, drawn.mixture)
        assert torch.equal(again.sources, drawn.sources)


def test_draws_depend_on_the_generator_alone(corpus):
    drawer = make_drawer(corpus, 2, RATE)
    first, second = draws(drawer, 8, seed=1), draws(drawer, 8, seed=1)
    assert all(
        torch.equal(one.mixture, other.mixture)
        for one, other in zip(first, second, strict=True)
    )
    assert len({drawn.plan for drawn in first}) == 8
    assert draws(drawer, 1, seed=2)[0].plan != first[0].plan


def test_draws_do_not_depend_on_threads(tmp_path):
    # Sums over more than 32768 samples are split over the threads.
    corpus = write_speakers(
        tmp_path, {"a": [150000], "b": [150000]}, sample_rate=16000
    )
    drawer = make_drawer(corpus, 2, RATE)
    before = torch.get_num_threads()
    drawn = []
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            drawn.append(draws(drawer, 1)[0])
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(drawn[0].mixture, drawn[1].mixture)
    assert torch.equal(drawn[0].mixture, drawn[2].mixture)


def test_without_a_length_the_shortest_utterance_decides(corpus):
    lengths = set()
    for drawn in draws(make_drawer(corpus, 2, RATE), 200):
        totals = [
            source.pieces[0].utterance.num_frames
            for source in drawn.plan.sources
        ]
        assert len(drawn.mixture) == min(totals)
        lengths.add(len(drawn.mixture))
    assert lengths == {900, 3000, 4000, 5000}  # never 6000, there is one


def test_a_length_is_an_upper_bound_unless_joined(corpus):
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.25)
    assert {len(drawn.mixture) for drawn in draws(drawer, 60)} == {900, 2000}


def test_short_utterances_are_joined(corpus):
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.5, join_short=True)
    pieces = Counter()
    for drawn in draws(drawer, 60):
        assert len(drawn.mixture) == 4000
        for source in drawn.plan.sources:
            pieces[source.speaker, len(source.pieces)] += 1
            paths = [piece.utterance.path for piece in source.pieces]
            assert len(set(paths)) == len(paths)
            # All but the last piece are whole utterances.
            for piece in source.pieces[:-1]:
                assert piece.num_frames == piece.utterance.num_frames
    # a: 4000 alone, or 3000 and a part of 4000; d: 4 * 900 and 400.
    assert set(pieces) == {("a", 1), ("a", 2), ("b", 1), ("c", 1), ("d", 5)}


def test_joined_source_is_its_pieces_in_a_row(corpus):
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.5, join_short=True)
    for drawn in draws(drawer, 20):
        for source, signal in zip(
            drawn.plan.sources, drawn.sources.unbind(1), strict=True
        ):
            expected = np.concatenate(
                [
                    soundfile.read(p.utterance.path, dtype="float32")[0][
                        p.start : p.start + p.num_frames
                    ]
                    for p in source.pieces
                ]
            )
            scale = float(signal @ signal) ** 0.5 / np.linalg.norm(expected)
            np.testing.assert_allclose(
                signal.numpy(),
                scale * expected,
                rtol=1e-5,  # a few float32 products
                atol=1e-7,
            )


def test_speakers_with_too_little_speech_are_left_out(corpus):
    keys = {"segment_s": 0.6, "join_short": True}
    drawer = make_drawer(corpus, 2, RATE, **keys)  # 4800 samples
    assert [spoken[0].speaker for spoken in drawer.speakers.spoken] == [
        "a",
        "b",
        "c",
    ]
    # Sped up, b's 5000 samples do not last.
    drawer = make_drawer(corpus, 2, RATE, speed_range=(1, 1.1), **keys)
    assert [spoken[0].speaker for spoken in drawer.speakers.spoken] == [
        "a",
        "c",
    ]
    for drawn in draws(drawer, 20):
        assert len(drawn.mixture) == 4800
    with pytest.raises(InputError, match="2 speakers with 0.6 s of speech"):
        make_drawer(corpus, 3, RATE, speed_range=(1, 1.1), **keys)


def test_speeds_are_drawn_for_every_speaker(corpus):
    drawer = make_drawer(
        corpus, 2, RATE, segment_s=0.05, speed_range=(0.9, 1.1)
    )
    speeds = [
        [source.speed for source in drawn.plan.sources]
        for drawn in draws(drawer, 60)
    ]
    assert 0.9 <= np.min(speeds) < 0.92 and 1.08 < np.max(speeds) <= 1.1
    assert any(first != second for first, second in speeds)


@pytest.mark.parametrize(
    "rule, shares",
    [
        ("utterances", {"a": 2 / 9, "b": 1 / 9, "c": 1 / 9, "d": 5 / 9}),
        # 7000, 5000, 6000 and 4500 samples
        ("duration", {"a": 14 / 45, "b": 2 / 9, "c": 4 / 15, "d": 1 / 5}),
        ("uniform", {"a": 1 / 4, "b": 1 / 4, "c": 1 / 4, "d": 1 / 4}),
    ],
)
def test_speakers_are_drawn_by_their_weight(corpus, rule, shares):
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.01, speaker_weights=rule)
    # The first speaker follows the weights; the second is not independent.
    first = Counter(
        drawn.plan.sources[0].speaker for drawn in draws(drawer, 800)
    )
    for speaker, share in shares.items():
        # Four standard errors.
        error = 4 * (share * (1 - share) / 800) ** 0.5
        assert first[speaker] / 800 == pytest.approx(share, abs=error)


def test_silent_windows_are_drawn_again(tmp_path):
    corpus = write_speakers(tmp_path, {"a": [8000], "b": [8000]})
    path = tmp_path / "a" / "a0.wav"
    speech, _ = soundfile.read(path)
    speech[:6000] = 0
    soundfile.write(path, speech, RATE)
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.1)
    for drawn in draws(drawer, 40):
        for source in drawn.sources.unbind(1):
            assert source.abs().mean() > 0
        (source,) = (s for s in drawn.plan.sources if s.speaker == "a")
        assert source.pieces[0].start + 800 > 6000


def test_a_redrawn_window_keeps_the_length(tmp_path):
    # Without joining, a shorter utterance cannot stand in for a silent one.
    corpus = write_speakers(tmp_path, {"a": [8000, 8000, 80], "b": [8000]})
    soundfile.write(tmp_path / "a" / "a0.wav", np.zeros(8000), RATE)
    drawer = make_drawer(corpus, 2, RATE)
    lengths = set()
    for drawn in draws(drawer, 30):
        assert all(len(source.pieces) == 1 for source in drawn.plan.sources)
        lengths.add(len(drawn.mixture))
    assert lengths == {80, 8000}


def test_others_are_drawn_instead_of_a_silent_speaker(tmp_path, caplog):
    lengths = {"a": [8000], "b": [8000], "c": [6000], "mute": [8000] * 3}
    corpus = write_speakers(tmp_path, lengths)
    for path in (tmp_path / "mute").iterdir():
        soundfile.write(path, np.zeros(8000), RATE)
    for keys in ({}, {"segment_s": 0.1}, {"segment_s": 0.6}):
        caplog.clear()
        drawer = make_drawer(corpus, 2, RATE, **keys)
        drawn = draws(drawer, 30)
        pairs = {
            frozenset(source.speaker for source in one.plan.sources)
            for one in drawn
        }
        assert pairs == {frozenset("ab"), frozenset("ac"), frozenset("bc")}
        # Half of the utterances are those of 'mute', which is told once.
        assert caplog.text.count("are all silent") == 1
        assert f"{MAX_TRIES} windows drawn from speaker 'mute'" in caplog.text
        # What was drawn before changes nothing.
        for index in (29, 3, 11):
            again = drawer.draw(np.random.default_rng([0, index]))
            fresh = make_drawer(corpus, 2, RATE, **keys).draw(
                np.random.default_rng([0, index])
            )
            assert again.plan == fresh.plan == drawn[index].plan
            assert torch.equal(again.mixture, fresh.mixture)


def test_too_few_who_speak_are_named(tmp_path, caplog):
    corpus = write_speakers(
        tmp_path, {"a": [8000], "mute": [8000], "null": [8000]}
    )
    for name in ("mute", "null"):
        path = tmp_path / name / f"{name}0.wav"
        soundfile.write(path, np.zeros(8000), RATE)
    drawer = make_drawer(corpus, 2, RATE, segment_s=0.1)
    with pytest.raises(InputError, match="2 of 3 speakers") as caught:
        draws(drawer, 1)
    assert "(mute, null) are all silent" in str(caught.value)
    assert "mute0.wav" in caplog.text and "null0.wav" in caplog.text


def test_cuts_are_no_utterances_unless_joined(tmp_path, caplog):
    shortest = round(MIN_UTTERANCE_S * RATE)
    corpus = write_speakers(
        tmp_path,
        {
            "a": [shortest, shortest - 1, 1],
            "b": [2 * shortest],
            "cut": [shortest - 1] * 8,
        },
    )
    with caplog.at_level(logging.INFO):
        drawer = data_sets.make_drawer(corpus, 2, RATE)
    assert "2 of 3 speakers with utterances of 0.5 s or more" in caplog.text
    for drawn in draws(drawer, 20):
        assert len(drawn.mixture) == shortest
    with pytest.raises(InputError, match="holds 2 speakers with utterances"):
        data_sets.make_drawer(corpus, 3, RATE)
    every = data_sets.make_drawer(corpus, 2, RATE, min_utterance_s=0)
    lengths = {len(drawn.mixture) for drawn in draws(every, 60)}
    assert lengths == {1, shortest - 1, shortest}
    joined = data_sets.make_drawer(
        corpus, 3, RATE, segment_s=0.8, join_short=True
    )
    for drawn in draws(joined, 5):
        assert len(drawn.mixture) == 6400


def test_render_refuses_silence_and_unequal_lengths(corpus, tmp_path):
    short = draws(make_drawer(corpus, 2, RATE, segment_s=0.01), 1)[0]
    long = draws(make_drawer(corpus, 2, RATE, segment_s=0.02), 1)[0]
    plan = MixturePlan((short.plan.sources[0], long.plan.sources[1]), RATE)
    with pytest.raises(InputError, match="must be of equal length"):
        render(plan)
    quiet = write_speakers(tmp_path, {"a": [100], "b": [100]})
    plan = draws(make_drawer(quiet, 2, RATE), 1)[0].plan
    soundfile.write(tmp_path / "b" / "b0.wav", np.zeros(100), RATE)
    with pytest.raises(InputError, match="b0.wav: is silent"):
        render(plan)


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"num_spks": 1}, "num_spks is 1; at least 2 can be mixed"),
        ({"num_spks": 5}, "holds 4 speakers; a mixture of 5 speakers"),
        ({"noise_probability": 0.5}, "is 0.5, but there is no noise; give 1"),
        ({"room_probability": 0.5}, "is 0.5, but there are no rooms; give 1"),
    ],
)
def test_options_that_cannot_be_met_are_refused(corpus, keys, message):
    keys = {"num_spks": 2, "sample_rate": RATE, **keys}
    with pytest.raises(InputError, match=message):
        make_drawer(corpus, **keys)


# ------------------------------------------------------------ conversations


def test_a_conversation_needs_a_length_to_fill(corpus):
    for keys in ({}, {"segment_s": 0.2}):
        with pytest.raises(InputError, match="conversation needs join_short"):
            make_drawer(corpus, 2, RATE, conversation=Conversation(), **keys)


def test_turns_of_a_plan_are_those_that_were_drawn(corpus):
    conversation = Conversation(solo=0.2, turns=0.6, turn_s=(0.25, 0.3))
    drawer = make_drawer(
        corpus,
        3,
        RATE,
        segment_s=0.5,
        join_short=True,
        conversation=conversation,
    )
    for i, drawn in enumerate(draws(drawer, 40)):
        rng = np.random.default_rng([0, i])
        spans = conversation.draw(rng, 3, 4000, RATE)
        planned = [list(source.spans) for source in drawn.plan.sources]
        assert planned == spans
        for source in drawn.plan.sources:
            assert source.num_frames == 4000
            assert (source.speaker == "") == (not source.spans)


def test_a_talker_of_nothing_but_silence_is_replaced(tmp_path):
    write_speakers(tmp_path, {"a": [9000], "b": [9000]})
    (tmp_path / "mute").mkdir()
    soundfile.write(tmp_path / "mute/1.wav", np.full(9000, 1e-6), RATE)
    drawer = make_drawer(
        read_corpus(tmp_path),
        2,
        RATE,
        segment_s=1.0,
        join_short=True,
        conversation=Conversation(turns=1.0, turn_s=(0.25, 0.3)),
    )
    for drawn in draws(drawer, 20):
        assert "mute" not in {s.speaker for s in drawn.plan.sources}


def test_overlapped_conversations_are_the_mixtures_of_old(corpus):
    """But for the kind, which is drawn before all else."""
    keys = {"segment_s": 0.4, "join_short": True}
    plain = make_drawer(corpus, 3, RATE, **keys)
    drawer = make_drawer(
        corpus, 3, RATE, conversation=Conversation(turns=0), **keys
    )
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rng.random()
        drawn = drawer.draw(np.random.default_rng(seed))
        assert torch.equal(drawn.mixture, plain.draw(rng).mixture)


def test_drawing_is_what_it_was_before_there_were_conversations(corpus):
    """A plan of before: new options take no random number unless asked for."""
    drawer = make_drawer(
        corpus,
        2,
        RATE,
        segment_s=0.5,
        join_short=True,
        speed_range=(0.9, 1.1),
        filter_range_db=(-6, 6),
    )
    plan = drawer.draw(np.random.default_rng(0)).plan
    assert [
        (
            Path(piece.utterance.path).stem,
            piece.start,
            piece.num_frames,
            source.level_db,
            source.speed,
            source.filter_db[0],
        )
        for source in plan.sources
        for piece in source.pieces
    ] == [
        ("d0", 0, 850, -25.7841, 1.06, -5.9671),
        ("d2", 0, 850, -25.7841, 1.06, -5.9671),
        ("d3", 0, 850, -25.7841, 1.06, -5.9671),
        ("d4", 0, 850, -25.7841, 1.06, -5.9671),
        ("d1", 69, 600, -25.7841, 1.06, -5.9671),
        ("b0", 514, 4000, -28.0151, 1.08, 0.4975),
    ]
