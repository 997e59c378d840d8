"""Mixtures of training: a function of seed, epoch and index, and no more."""

import numpy as np
import pytest
import soundfile
import speechbrain as sb
import torch
from data_sets import draw_on_the_fly, make_drawer
from hyperpyyaml import load_hyperpyyaml
from small_rooms import SmallRooms
from torch.utils.data import DataLoader, DistributedSampler

from s4m_sb.errors import InputError
from s4m_sb.mixing.corpus import read_corpus

RATE = 8000


@pytest.fixture()
def make(speech_folder):
    def make_mixtures(**keys):
        settings = {
            "source": speech_folder,
            "split": "train",
            "num_mixtures": 10,
            "num_spks": 2,
            "sample_rate": RATE,
            "segment_s": 0.3,
            "seed": 7,
        }
        return draw_on_the_fly(**{**settings, **keys})

    return make_mixtures


def signals(mixtures, indices=range(4)):
    return torch.stack([mixtures[i]["mix_sig"] for i in indices])


def test_items_of_a_mixture(make):
    for num_spks in (2, 3):
        mixtures = make(num_spks=num_spks)
        assert len(mixtures) == 10
        item = mixtures[3]
        sources = [item[f"s{k}_sig"] for k in range(1, num_spks + 1)]
        assert list(item) == ["id", "mix_sig"] + [
            f"s{k}_sig" for k in range(1, num_spks + 1)
        ]
        assert item["id"] == "3"
        assert all(source.shape == (2400,) for source in sources)
        total = sources[0]
        for source in sources[1:]:
            total = total + source
        assert torch.equal(item["mix_sig"], total)


def test_mixture_is_drawn_from_seed_epoch_and_index(make, speech_folder):
    mixtures = make()
    mixtures.set_epoch(4)
    drawer = make_drawer(
        read_corpus(speech_folder, "train"), 2, RATE, segment_s=0.3
    )
    for index in (0, 9):
        expected = drawer.draw(np.random.default_rng([7, 4, index]))
        assert mixtures.draw(index).plan == expected.plan
        item = mixtures[index]
        assert torch.equal(item["mix_sig"], expected.mixture)
        assert torch.equal(item["s2_sig"], expected.sources[:, 1])


def test_seeds_epochs_and_indices_differ_and_return(make):
    mixtures = make()
    first = signals(mixtures)
    assert len({tuple(signal.tolist()) for signal in first}) == len(first)
    mixtures.set_epoch(2)
    second = signals(mixtures)
    other_seed = signals(make(seed=8))
    for others in (second, other_seed):
        for one, other in zip(first, others, strict=True):
            assert not torch.equal(one, other)
    mixtures.set_epoch(1)
    assert torch.equal(signals(mixtures), first)
    assert torch.equal(signals(make()), first)


def test_random_state_of_the_process_means_nothing(make):
    mixtures = make()
    first = signals(mixtures)
    np.random.seed(99)
    torch.manual_seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(signals(mixtures), first)
    # ... and is left alone.
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize(
    "conversation", [None, {"solo": 0.2, "turns": 0.6, "turn_s": [0.25, 0.3]}]
)
def test_any_number_of_workers_gives_the_same_batches(
    make, noise_folder, conversation
):
    mixtures = make(
        noise=noise_folder,
        noise_probability=0.5,
        speed_range=[0.9, 1.1],
        filter_range_db=[-6, 6],
        join_short=True,
        conversation=conversation,
    )
    brain = sb.Brain(run_opts={"device": "cpu"})
    epochs = {}
    for num_workers in (0, 1, 2):
        loader = brain.make_dataloader(
            mixtures,
            sb.Stage.TRAIN,
            batch_size=3,
            num_workers=num_workers,
            # Workers that live on must hear of the next epoch.
            persistent_workers=num_workers > 0,
        )
        batches = []
        for epoch in (1, 2):
            mixtures.set_epoch(epoch)
            for batch in loader:
                assert torch.equal(
                    batch.mix_sig.lengths, torch.ones(len(batch.id))
                )
                batches.append((batch.id, batch.mix_sig.data))
        epochs[num_workers] = batches
    assert len(epochs[0]) == 8
    for num_workers in (1, 2):
        for one, other in zip(epochs[0], epochs[num_workers], strict=True):
            assert one[0] == other[0]
            assert torch.equal(one[1], other[1])
    first, second = epochs[0][:4], epochs[0][4:]
    assert all(
        not torch.equal(one[1], other[1])
        for one, other in zip(first, second, strict=True)
    )


def test_ranks_share_out_the_epoch(make):
    mixtures = make()
    whole = {tuple(mixtures[i]["mix_sig"].tolist()) for i in range(10)}
    of_rank = []
    for rank in (0, 1):
        # What SpeechBrain makes for a data set in distributed training.
        sampler = DistributedSampler(mixtures, num_replicas=2, rank=rank)
        loader = DataLoader(mixtures, sampler=sampler, batch_size=None)
        of_rank.append({tuple(item["mix_sig"].tolist()) for item in loader})
    assert [len(mine) for mine in of_rank] == [5, 5]
    assert of_rank[0] | of_rank[1] == whole


def test_shorter_mixtures_are_padded_with_their_lengths(make):
    mixtures = make(segment_s=None, speed_range=[0.8, 1.25])
    brain = sb.Brain(run_opts={"device": "cpu"})
    loader = brain.make_dataloader(mixtures, sb.Stage.VALID, batch_size=10)
    (batch,) = loader
    lengths = [len(mixtures[i]["mix_sig"]) for i in range(10)]
    assert len(set(lengths)) > 1
    expected = torch.tensor(lengths) / max(lengths)
    torch.testing.assert_close(batch.mix_sig.lengths, expected)


def test_further_items_can_be_added(make):
    mixtures = make()
    mixtures.add_dynamic_item(
        lambda mixture: mixture.abs().max(), takes="mix_sig", provides="peak"
    )
    mixtures.set_output_keys(["id", "peak"])
    assert list(mixtures[0]) == ["id", "peak"]


def test_it_can_stand_in_a_yaml(speech_folder):
    hparams = load_hyperpyyaml(
        f"""
        sample_rate: 8000
        mixtures: !new:s4m_sb.mixing.dynamic.DynamicMixing
            source: {speech_folder}
            split: train
            num_mixtures: 3
            options: !new:s4m_sb.mixing.options.MixingOptions
                num_spks: 2
                sample_rate: !ref <sample_rate>
                segment_s: 4
                join_short: True
                level_range_db: [-5, 5]
                speed_range: [0.95, 1.05]
        """
    )
    assert hparams["mixtures"][0]["mix_sig"].shape == (32000,)


def test_mini_speech_fills_four_seconds(mini_speech):
    mixtures = draw_on_the_fly(
        mini_speech / "manifest.csv",
        num_mixtures=20,
        num_spks=2,
        sample_rate=8000,
        segment_s=4,
        split="train",
        join_short=True,
    )
    for item in mixtures:
        assert item["mix_sig"].shape == (32000,)
        assert torch.equal(item["mix_sig"], item["s1_sig"] + item["s2_sig"])


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"num_mixtures": 0}, "num_mixtures is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"num_spks": 7}, "holds 6 speakers; a mixture of 7 speakers"),
        ({"split": "dev"}, "dev: no such folder of speech"),
        ({"speed_range": [0.1, 1]}, r"speed_range is \[0.1, 1\]"),
        ({"filter_range_db": [6, -6]}, r"filter_range_db is \[6, -6\]"),
        (
            {"filter_range_db": [-6, 6], "sample_rate": 100},
            "sample_rate is 100; a channel",
        ),
        ({"noise_probability": 1.5}, "noise_probability is 1.5; give a number"),
        ({"room_probability": -1}, "room_probability is -1; give a number"),
        ({"noise_probability": 0.5}, "is 0.5, but there is no noise; give 1"),
        ({"room_probability": 0}, "is 0, but there are no rooms; give 1"),
    ],
)
def test_bad_values_are_refused(make, keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys)
    with pytest.raises(InputError, match="epoch is -1"):
        make().set_epoch(-1)


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(1)
    for name in ("rain", "wind"):
        samples = 0.1 * rng.standard_normal(2 * RATE)
        soundfile.write(folder / f"{name}.wav", samples, RATE)
    return folder


@pytest.mark.parametrize("num_spks", [1, 2])
def test_noise_is_what_the_sources_leave(make, noise_folder, num_spks):
    mixtures = make(noise=noise_folder, num_spks=num_spks)
    assert (
        list(mixtures[0])
        == ["id", "mix_sig", "s1_sig", "s2_sig"][: 2 + num_spks]
    )
    for index in range(4):
        item, drawn = mixtures[index], mixtures.draw(index)
        sources = [item[f"s{k + 1}_sig"] for k in range(num_spks)]
        assert torch.equal(torch.stack(sources, dim=1), drawn.sources)
        torch.testing.assert_close(
            item["mix_sig"] - sum(sources),
            drawn.noise,
            rtol=0,
            atol=1e-6,  # float32 sums below 1
        )


@pytest.mark.parametrize("target", ["anechoic", "reverb"])
def test_targets_in_rooms(make, noise_folder, target):
    mixtures = make(
        noise=noise_folder, rooms=SmallRooms(2, RATE), target=target
    )
    item, drawn = mixtures[1], mixtures.draw(1)
    given = torch.stack([item["s1_sig"], item["s2_sig"]], dim=1)
    keys = ["id", "mix_sig", "s1_sig", "s2_sig"]
    assert not torch.equal(drawn.sources, drawn.images)
    assert torch.equal(item["mix_sig"], drawn.mixture)
    if target == "reverb":
        assert list(item) == keys
        assert torch.equal(given, drawn.images)
    else:
        assert list(item) == [*keys, "s1_image_sig", "s2_image_sig"]
        assert torch.equal(given, drawn.sources)
        images = torch.stack([item["s1_image_sig"], item["s2_image_sig"]], 1)
        assert torch.equal(images, drawn.images)


@pytest.mark.parametrize("target", ["anechoic", "reverb"])
def test_one_network_can_learn_quiet_and_noise(make, noise_folder, target):
    mixtures = make(
        num_mixtures=16,
        noise=noise_folder,
        rooms=SmallRooms(2, RATE),
        target=target,
        noise_probability=0.5,
        room_probability=0.5,
        filter_range_db=[-6, 6],
    )
    kinds = set()
    for index in range(16):
        item, drawn = mixtures[index], mixtures.draw(index)
        assert list(item) == list(mixtures[0])
        quiet, dry = drawn.noise is None, drawn.plan.room is None
        kinds.add((quiet, dry))
        given = torch.stack([item["s1_sig"], item["s2_sig"]], dim=1)
        if dry:
            assert torch.equal(given, drawn.images)
        if quiet and (dry or target == "reverb"):
            assert torch.equal(item["mix_sig"], given[:, 0] + given[:, 1])
    assert len(kinds) == 4


def test_an_unknown_target_is_refused(make):
    with pytest.raises(InputError, match="target is 'dry'; use one of anech"):
        make(target="dry")


def test_one_speaker_alone_is_no_mixture(make):
    with pytest.raises(InputError, match="num_spks is 1; at least 2"):
        make(num_spks=1)


def test_a_cache_changes_nothing_but_the_time(make, noise_folder, tmp_path):
    options = {
        "join_short": True,
        "noise": noise_folder,
        "speed_range": [0.9, 1.1],
        "conversation": {"solo": 0.2, "turns": 0.6, "turn_s": [0.25, 0.3]},
    }
    kept = make(**options, cache=tmp_path / "decoded")
    for item, other in zip(make(**options), kept, strict=True):
        assert list(item) == list(other)
        for name in item:
            if name != "id":
                assert torch.equal(item[name], other[name])
    assert list((tmp_path / "decoded").glob("*.wav"))


def test_a_solo_talker_is_in_either_output_and_the_other_is_zero(make):
    mixtures = make(
        num_mixtures=40, join_short=True, conversation={"solo": 1.0}
    )
    silent = [
        [not item[name].any() for name in ("s1_sig", "s2_sig")]
        for item in mixtures
    ]
    assert all(sum(pair) == 1 for pair in silent)
    # 20 expected, deviation 3.2.
    assert 7 < sum(first for first, _ in silent) < 33


def test_unknown_names_in_a_conversation_are_refused(make):
    with pytest.raises(InputError, match="conversation has no 'talk'"):
        make(join_short=True, conversation={"talk": 1})
