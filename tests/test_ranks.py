"""Several processes: who does what, and who says so in the end."""

import re
import threading
import time

import pytest
import torch.distributed

from s4m_sb.errors import InputError
from s4m_sb.ranks import Rank, this_rank


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_item_is_done_once_and_the_work_is_even(count):
    items = [f"item {i}" for i in range(50)]
    sizes = [(i * 37) % 101 for i in range(50)]
    shares = [
        Rank(number, count).share(items, sizes) for number in range(count)
    ]
    assert sorted(sum(shares, [])) == sorted(items)
    size = dict(zip(items, sizes, strict=True))
    work = [sum(size[item] for item in share) for share in shares]
    # dealt in turns: the difference is at most the largest item
    assert max(work) - min(work) <= max(sizes)


def test_alone_it_speaks_for_itself():
    assert this_rank({}) == Rank(0, 1)
    assert Rank(1, 2).gather(["broken"]) == ["broken"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 and WORLD_SIZE=2"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK=-1"),
        ({"RANK": "1"}, "RANK=1 and WORLD_SIZE=1"),
        ({"RANK": "one"}, "RANK=one"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment, message):
    with pytest.raises(InputError, match=re.escape(message)):
        this_rank(environment)


def test_the_first_waits_for_the_last_words_of_all():
    store = torch.distributed.HashStore()
    ranks = [Rank(number, 3, store=store) for number in range(3)]
    assert ranks[1].gather([]) == []

    def late():
        time.sleep(0.5)
        ranks[2].gather(["two\nlines", "ü"])

    thread = threading.Thread(target=late)
    thread.start()
    assert ranks[0].gather(["first"]) == ["first", "two\nlines", "ü"]
    assert not thread.join()


def test_the_first_decides_for_all():
    store = torch.distributed.HashStore()
    ranks = [Rank(number, 2, store=store) for number in range(2)]

    def late():
        time.sleep(0.3)
        return [1, 2]

    thread = threading.Thread(target=ranks[0].agree, args=[late])
    thread.start()
    assert ranks[1].agree(lambda: pytest.fail("asked")) == [1, 2]
    thread.join()
    assert Rank(1, 2).agree(lambda: ["alone"]) == ["alone"]
