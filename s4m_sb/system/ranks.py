"""One of several processes that share a task, as ``torchrun`` starts them.

The first one decides what is to be done, and by whom: what it finds on the
disk, another may find a moment later to be more or less. They need nothing
else from each other but a last word: a process that ends with an error makes
``torchrun`` end the others, so all report to the first one, which waits for
them.

They leave what they say in the store where ``torchrun`` lets them meet, and
look for it there. The collectives of a process group would be shorter, but
whoever waits in one hears no signal: a process in gloo's ``gather_object``
ended 20 s after SIGTERM, when the other one had come (PyTorch 2.11), and here
they wait for hours; ``torchrun`` kills after 30 s, and nothing is cleaned up.
"""

import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from s4m_sb.errors import InputError

Item = TypeVar("Item")

POLL_S = 0.2
MOST_BYTES = 2**20  # the store of torchrun takes no value of 8 MiB


def deal(
    items: Sequence[Item], sizes: Sequence[int], count: int
) -> list[list[Item]]:
    """Divides items into parts of about the same size.

    Arguments
    ---------
    items : sequence
        What to divide.
    sizes : sequence of int
        How much work each of them is.
    count : int
        Number of parts.

    Returns
    -------
    list[list]
        Every item stands in one of the parts, in the order given.

    Example
    -------
    >>> deal("abcd", [1, 9, 2, 8], count=2)
    [['b', 'c'], ['a', 'd']]
    """
    largest_first = sorted(range(len(items)), key=lambda i: -sizes[i])
    return [
        [items[i] for i in sorted(largest_first[number::count])]
        for number in range(count)
    ]


@dataclass(frozen=True)
class Rank:
    """Which of the processes this one is.

    Arguments
    ---------
    number : int
        0 to ``count - 1``.
    count : int
        Processes in all.
    local : int, optional
        The process's number on its machine, which is that of its GPU.
    store : torch.distributed.Store, optional
        Where the processes leave shares and last words; without one each of
        them stands for itself.
    """

    number: int = 0
    count: int = 1
    local: int | None = None
    store: Any = None

    @property
    def decides(self) -> bool:
        """Whether this process looks for what is to be done."""
        return self.number == 0 or self.store is None

    def owns(self, name: str) -> bool:
        """Tells whether this process decides what is done with an item.

        Arguments
        ---------
        name : str
            The item's name. By this alone it has one owner among processes
            without a store, whatever else each of them may find.

        Returns
        -------
        bool
            True in one of the processes; with a store, in the first one.

        Example
        -------
        >>> [Rank(number, 3).owns("a.wav") for number in range(3)]
        [False, False, True]
        """
        if self.store is not None:
            return self.decides
        return zlib.crc32(os.fsencode(name)) % self.count == self.number

    def share(self, items: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
        """Takes this process's part of what the first one has.

        Arguments
        ---------
        items : sequence
            What JSON can hold; what other processes than the first one give
            does not count.
        sizes : sequence of int
            How much work each of them is.

        Returns
        -------
        list
            The parts of all processes have every item of the first one once,
            and about as much work each. Without a store, all items given.

        Raises
        ------
        InputError
            If the first process ends before it has shared anything out.
        """
        if self.store is None:
            return list(items)
        if self.number == 0:
            for number, part in enumerate(deal(items, sizes, self.count)):
                self._say(f"for {number}", part)
        return self._heard(f"for {self.number}")

    def gather(self, lines: Sequence[str]) -> list[str]:
        """Brings what all processes have to say to the first one.

        Arguments
        ---------
        lines : sequence of str
            What this one has to say.

        Returns
        -------
        list[str]
            In process 0 the lines of all, when all have come here; in the
            others none. Without a store this one's.
        """
        if self.store is None:
            return list(lines)
        self._say(f"by {self.number}", list(lines))
        if self.number > 0:
            return []
        gathered = []
        for number in range(self.count):
            gathered += self._heard(f"by {number}")
        return gathered

    def _say(self, key: str, said: Any) -> None:
        text = json.dumps(said)
        starts = range(0, len(text), MOST_BYTES)
        for start in starts:
            part = text[start : start + MOST_BYTES]
            self.store.set(f"s4m_sb/{key}/{start}", part)
        self.store.set(f"s4m_sb/{key}", json.dumps(list(starts)))

    def _heard(self, key: str) -> Any:
        """Waits for what another process says.

        For as long as it takes: forever, if that process has died and
        nothing ends this one, as ``torchrun`` does. Only the end of the
        first process, which has the store then, is noticed.
        """
        import torch.distributed

        key = f"s4m_sb/{key}"
        try:
            # Not `wait`, which gives up after a time.
            while not self.store.check([key]):
                time.sleep(POLL_S)
            starts = json.loads(self.store.get(key))
            parts = [self.store.get(f"{key}/{start}") for start in starts]
        except torch.distributed.DistError as error:
            raise InputError(
                "the process with RANK=0 has ended; it says why"
            ) from error
        return json.loads(b"".join(parts))


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """Reads which process this is from the environment.

    Arguments
    ---------
    environment : mapping of str to str
        ``RANK`` and ``WORLD_SIZE``, if there are several processes,
        ``LOCAL_RANK``, if they have a GPU each, and ``MASTER_ADDR`` and
        ``MASTER_PORT``, where they meet, as ``torchrun`` sets them.

    Returns
    -------
    Rank
        The only one, if nothing is set.

    Raises
    ------
    InputError
        If a value is no number or does not fit the others.

    Example
    -------
    >>> this_rank({"RANK": "1", "WORLD_SIZE": "4"})
    Rank(number=1, count=4, local=None, store=None)
    """
    number = _number(environment, "RANK", 0)
    count = _number(environment, "WORLD_SIZE", 1)
    local = _number(environment, "LOCAL_RANK", None)
    if not 0 <= number < count:
        raise InputError(
            f"RANK={number} and WORLD_SIZE={count} in the environment: ranks "
            "go from 0 to WORLD_SIZE - 1"
        )
    store = None
    if count > 1 and "MASTER_ADDR" in environment:
        import torch.distributed

        store, _, _ = next(torch.distributed.rendezvous("env://"))
    return Rank(number, count, local, store)


def _number(
    environment: Mapping[str, str], name: str, default: int | None
) -> Any:
    text = environment.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise InputError(
            f"{name}={text} in the environment: give a number"
        ) from error
