"""Who speaks when: the kinds of recordings, turns, gaps and pauses."""

import numpy as np
import pytest

from s4m_sb.errors import InputError
from s4m_sb.mixing.conversation import BREATH_S, SHORTEST_TURN_S, Conversation

RATE = 8000


def drawn(conversation, count, num_spks=2, length_s=10.0):
    frames = round(length_s * RATE)
    return [
        conversation.draw(np.random.default_rng(i), num_spks, frames, RATE)
        for i in range(count)
    ]


def in_order(spans):
    """All turns in the order of time: begin, end, talker."""
    return sorted(
        (begin, end, talker)
        for talker, his in enumerate(spans)
        for begin, end in his
    )


@pytest.mark.parametrize("num_spks", [1, 2, 3, 4])
@pytest.mark.parametrize("length_s", [0.01, 0.3, 2.0, 30.0])
def test_turns_are_within_the_recording_and_do_not_touch(num_spks, length_s):
    one = Conversation(solo=0.2, turns=0.6)
    frames = round(length_s * RATE)
    for spans in drawn(one, 100, num_spks, length_s):
        assert len(spans) == num_spks
        assert any(spans)
        for his in spans:
            for begin, end in his:
                assert 0 <= begin < end <= frames
                full = (begin, end) == (0, frames)
                assert full or end - begin >= SHORTEST_TURN_S * RATE
            for (_, end), (begin, _) in zip(his, his[1:], strict=False):
                # To the rounding of both ends to samples.
                assert begin - end >= BREATH_S * RATE - 1


def test_the_kinds_have_their_shares():
    count = 2000
    found = {"solo": 0, "overlapped": 0, "turns": 0}
    solo_talkers = [0, 0]
    for spans in drawn(Conversation(solo=0.25, turns=0.35), count):
        throughout = [his == [(0, 10 * RATE)] for his in spans]
        if all(throughout):
            found["overlapped"] += 1
        elif any(throughout) and not all(spans):
            found["solo"] += 1
            solo_talkers[throughout.index(True)] += 1
        else:
            found["turns"] += 1
    # Four standard deviations of 2000 draws: 0.043 at most.
    assert found["solo"] / count == pytest.approx(0.25, abs=0.043)
    assert found["turns"] / count == pytest.approx(0.35, abs=0.043)
    assert found["overlapped"] / count == pytest.approx(0.4, abs=0.043)
    # Of about 500, four standard deviations are 45.
    assert abs(solo_talkers[0] - solo_talkers[1]) < 2 * 45


def test_what_is_neither_solo_nor_turns_is_overlapped():
    for spans in drawn(Conversation(turns=0), 20, num_spks=3):
        assert spans == [[(0, 10 * RATE)]] * 3


def test_all_that_is_not_solo_is_turns_if_nothing_else_is_said():
    for solo in (0.0, 0.1, 0.3, 0.7, 0.9, 1.0):
        for spans in drawn(Conversation(solo=solo), 50):
            assert spans != [[(0, 10 * RATE)]] * 2


def test_all_solo_is_one_talker():
    for spans in drawn(Conversation(solo=1.0), 20, num_spks=3):
        assert sorted(spans) == [[], [], [(0, 10 * RATE)]]


def test_turns_are_as_long_as_stated():
    one = Conversation(turns=1.0, turn_s=(0.5, 8.0), pause=0)
    lengths = np.array(
        [
            (end - begin) / RATE
            for spans in drawn(one, 40, length_s=120)
            for begin, end, _ in in_order(spans)
            if begin > 0 and end < 120 * RATE
        ]
    )
    assert len(lengths) > 1200
    assert lengths.min() >= 0.5 - 1 / RATE and lengths.max() <= 8 + 1 / RATE
    logs = np.log(lengths)
    # Four standard errors of 1200 draws of a deviation of 0.6 are 0.07. A
    # normal distribution cut at two deviations has 0.88 of its deviation,
    # (log 8 - log 0.5) / 4 = 0.693.
    assert logs.mean() == pytest.approx(np.log(2), abs=0.07)
    assert logs.std() == pytest.approx(0.88 * 0.693, rel=0.08)


def gaps_s(one, count=40, length_s=120):
    found = []
    for spans in drawn(one, count, length_s=length_s):
        over = None
        for begin, end, _ in in_order(spans):
            if over is not None:
                found.append((begin - over) / RATE)
            over = end if over is None else max(over, end)
    return np.array(found)


def test_gaps_and_overlaps_are_as_stated():
    # Turns of one length: an overlap is never as long as a turn, so that
    # nothing cuts the distribution.
    one = Conversation(turns=1.0, turn_s=(4.0, 4.0), gap_s=(0.2, 0.7), pause=0)
    gaps = gaps_s(one)
    assert len(gaps) > 1000
    # Four standard errors of 1000 draws: 0.09 s, 9 %, 0.062.
    assert gaps.mean() == pytest.approx(0.2, abs=0.09)
    assert gaps.std() == pytest.approx(0.7, rel=0.09)
    assert (gaps < 0).mean() == pytest.approx(0.387, abs=0.062)


def test_long_pauses_are_as_stated():
    one = Conversation(
        turns=1.0,
        turn_s=(1.0, 1.0),
        gap_s=(0.0, 0.0),
        pause=0.3,
        pause_s=(2, 4),
    )
    gaps = gaps_s(one)
    pauses = gaps[gaps > 0.5]
    assert 2 - 1 / RATE <= pauses.min() and pauses.max() <= 4 + 1 / RATE
    assert pauses.mean() == pytest.approx(3, abs=0.12)  # 4 standard errors
    assert len(pauses) / len(gaps) == pytest.approx(0.3, abs=0.05)
    # After a pause half of the turns are the same talker's, else none.
    same = [
        first[2] == second[2]
        for spans in drawn(one, 40, length_s=120)
        for first, second in zip(
            in_order(spans), in_order(spans)[1:], strict=False
        )
        if second[0] - first[1] > 0.5 * RATE
    ]
    assert np.mean(same) == pytest.approx(0.5, abs=0.1)


def test_the_share_of_overlap_is_as_stated():
    """Of equal turns and a fixed overlap it is known: o / (turn - o)."""
    one = Conversation(turns=1.0, turn_s=(2.0, 2.0), gap_s=(-0.5, 0.0), pause=0)
    overlapped = speech = 0
    for spans in drawn(one, 50, length_s=60):
        speaking = np.zeros((2, 60 * RATE), bool)
        for begin, end, talker in in_order(spans):
            speaking[talker, begin:end] = True
        overlapped += speaking.all(axis=0).sum()
        speech += speaking.any(axis=0).sum()
    # The ends of the recordings cut overlaps as often as turns.
    assert overlapped / speech == pytest.approx(0.5 / 1.5, abs=0.01)


def test_of_many_talkers_two_to_all_take_part():
    counts = [
        sum(map(bool, spans))
        for spans in drawn(Conversation(), 600, 4, length_s=60)
    ]
    # 200 each; four standard deviations are 46.
    assert min(counts.count(number) for number in (2, 3, 4)) > 154
    assert set(counts) == {2, 3, 4}


def test_the_beginning_is_like_any_other_time():
    """A window of a conversation: speech is as likely at every moment."""
    speaking = np.zeros(10)
    one = Conversation()
    for spans in drawn(one, 1500):
        for begin, end, _ in in_order(spans):
            for second in range(10):
                moment = (second + 0.5) * RATE
                speaking[second] += begin <= moment < end
    # Four standard deviations of 1500 draws are 0.04 of 0.9.
    assert speaking.max() / speaking.min() < 1.1


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"solo": -0.1}, "solo is -0.1; give a number from 0 to 1"),
        ({"turns": 1.5}, "turns is 1.5; give a number from 0 to 1"),
        ({"turns": "all"}, "turns is all; give a number"),
        ({"solo": True}, "solo is True; give a number"),
        ({"pause": float("nan")}, "pause is nan"),
        ({"solo": 0.6, "turns": 0.5}, "together at most 1"),
        ({"turn_s": [2.0, 1.0]}, r"turn_s is \[2.0, 1.0\]"),
        ({"turn_s": [0.1, 1.0]}, "between 0.25 and 3600"),
        ({"turn_s": 3}, "turn_s is 3; give two numbers"),
        ({"turn_s": [1, 2, 3]}, "give two numbers"),
        ({"gap_s": [0.2, -1]}, "the deviation at least 0"),
        ({"gap_s": [0.2, "x"]}, "give two numbers"),
        ({"pause_s": [3, 1]}, r"pause_s is \[3, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        Conversation.of(keys)


def test_unknown_names_and_other_things_are_refused():
    with pytest.raises(InputError, match="has no 'overlap'; use solo, turns"):
        Conversation.of({"overlap": 0.2})
    with pytest.raises(InputError, match="conversation is 0.4; give some of"):
        Conversation.of(0.4)
    assert Conversation.of(Conversation(solo=1)) == Conversation(solo=1)
