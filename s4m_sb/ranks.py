"""One of several processes that share a task, as ``torchrun`` starts them.

The first one decides what is to be done. They need nothing else from each
other but a last word: a process that ends with an error makes ``torchrun`` end
the others, so all report to the first one, which waits for them.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from s4m_sb.errors import InputError

Item = TypeVar("Item")

POLL_S = 0.2
DECISION = "s4m_sb/decided by 0"


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
        Where the processes leave decisions and last words; without one each
        of them stands for itself.
    """

    number: int = 0
    count: int = 1
    local: int | None = None
    store: Any = None

    def share(self, items: Sequence[Item], sizes: Sequence[int]) -> list[Item]:
        """Takes this process's part of items.

        Arguments
        ---------
        items : sequence
            The same in all processes.
        sizes : sequence of int
            How much work each of them is.

        Returns
        -------
        list
            The parts of all processes have every item once, and about as
            much work each.

        Example
        -------
        >>> sizes = [1, 9, 2, 8]
        >>> [Rank(number, 2).share("abcd", sizes) for number in (0, 1)]
        [['b', 'c'], ['d', 'a']]
        """
        largest_first = sorted(range(len(items)), key=lambda i: -sizes[i])
        return [items[i] for i in largest_first[self.number :: self.count]]

    def agree(self, decide: Callable[[], Any]) -> Any:
        """Takes a decision that must not differ between the processes.

        Arguments
        ---------
        decide : Callable
            Gives what JSON can hold; process 0 alone calls it.

        Returns
        -------
        Any
            What process 0 decided. Without a store each decides for itself.
        """
        if self.store is None:
            return decide()
        if self.number == 0:
            decision = json.dumps(decide())
            self.store.set(DECISION, decision)
            return json.loads(decision)
        return json.loads(self._heard(DECISION))

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
        self.store.set(_key(self.number), json.dumps(list(lines)))
        if self.number > 0:
            return []
        gathered = []
        for number in range(self.count):
            gathered += json.loads(self._heard(_key(number)))
        return gathered

    def _heard(self, key: str) -> bytes:
        # Not `wait`, which gives up after a time.
        while not self.store.check([key]):
            time.sleep(POLL_S)
        return self.store.get(key)


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


def _key(number: int) -> str:
    return f"s4m_sb/said by {number}"
