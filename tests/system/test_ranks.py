"""Several processes: who does what, and who says so in the end."""

import functools
import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed

from s4m_sb.errors import InputError
from s4m_sb.system.ranks import Rank, deal, this_rank


def in_turn(*calls):
    """Results of calls that wait for each other, the last begun first."""
    with ThreadPoolExecutor(len(calls)) as pool:
        waiting = [pool.submit(call) for call in reversed(calls[1:])]
        time.sleep(0.3)
        first = pool.submit(calls[0])
        return [task.result() for task in [first, *reversed(waiting)]]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_item_is_done_once_and_the_work_is_even(count):
    items = [f"item {i}" for i in range(50)]
    sizes = [(i * 37) % 101 for i in range(50)]
    parts = deal(items, sizes, count)
    assert len(parts) == count
    assert sorted(sum(parts, [])) == sorted(items)
    size = dict(zip(items, sizes, strict=True))
    work = [sum(size[item] for item in part) for part in parts]
    # dealt in turns: the difference is at most the largest item
    assert max(work) - min(work) <= max(sizes)


@pytest.mark.parametrize("num_items", [0, 1, 9])
def test_what_the_first_has_is_shared_whatever_others_have(num_items):
    store = torch.distributed.HashStore()
    items = [["a\udce9.wav", number] for number in range(num_items)]

    def share(number):
        known = items if number == 0 else [["another", 9]] * 5
        return Rank(number, 3, store=store).share(known, [1] * len(known))

    parts = in_turn(*(functools.partial(share, n) for n in range(3)))
    assert sorted(sum(parts, [])) == items
    assert [Rank(n, 3, store=store).decides for n in range(3)] == [1, 0, 0]


def test_shares_are_as_large_as_they_need_be():
    """A store that processes reach takes no values of 8 MiB."""
    hosted = torch.distributed.TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    reached = torch.distributed.TCPStore("127.0.0.1", hosted.port)
    items = ["x" * 10000 + str(number) for number in range(2500)]
    first, second = in_turn(
        lambda: Rank(0, 2, store=hosted).share(items, range(2500)),
        lambda: Rank(1, 2, store=reached).share([], []),
    )
    assert sorted(first + second) == sorted(items)
    assert len(json.dumps(second)) > 2**23


@pytest.mark.parametrize("count", [1, 2, 5])
def test_without_a_store_every_name_has_one_owner(count):
    """Even if one of the processes knows of fewer."""
    names = [f"in/caf\udce9 {number}.wav" for number in range(100)]
    ranks = [Rank(number, count) for number in range(count)]
    owned = [list(filter(rank.owns, names)) for rank in ranks]
    assert sorted(sum(owned, [])) == sorted(names)
    assert all(len(part) > 0.5 * 100 / count for part in owned)
    assert ranks[-1].share(owned[-1], [1] * len(owned[-1])) == owned[-1]
    fewer = list(filter(ranks[0].owns, names[7:]))
    assert fewer == [name for name in owned[0] if name in names[7:]]


def test_a_first_process_that_has_ended_is_noticed():
    program = """if True:
        import torch.distributed
        store = torch.distributed.TCPStore(
            "127.0.0.1", 0, is_master=True, wait_for_workers=False
        )
        print(store.port, flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as first:
        store = torch.distributed.TCPStore(
            "127.0.0.1", int(first.stdout.readline())
        )
        with ThreadPoolExecutor(1) as pool:
            heard = pool.submit(Rank(1, 2, store=store).share, [], [])
            time.sleep(0.3)
            first.communicate(b"\n")
            with pytest.raises(InputError, match="RANK=0 has ended"):
                heard.result()


def test_whoever_waits_hears_that_it_is_to_end():
    """At once, though another one works for hours; collectives do not."""
    program = """if True:
        import torch.distributed
        from s4m_sb.system.processes import ended_by_sigterm
        from s4m_sb.system.ranks import Rank
        store = torch.distributed.TCPStore(
            "127.0.0.1", 0, is_master=True, wait_for_workers=False
        )
        with ended_by_sigterm():
            print("waits", flush=True)
            Rank(0, 2, store=store).gather([])
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "waits\n"
        time.sleep(0.5)
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=10) == 143


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
        return ranks[2].gather(["two\nlines", "ü"])

    first, last = in_turn(lambda: ranks[0].gather(["first"]), late)
    assert first == ["first", "two\nlines", "ü"]
    assert last == []
