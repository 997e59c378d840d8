"""What every part of a network promises, checked in one place.

- It takes any number of frames (or samples) from 1 on, and gives as many as it
  says.
- Each item of a batch comes out as it does alone.
- Where it is told which frames count, the others change nothing.
- Its gradients are those of differences, in float64.
- Where it has a `step`, any split of the input gives what the whole gives.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch

LENGTHS = (1, 2, 3, 5, 8, 13, 33)
STEP = 1e-6  # of differences
# float64 through a dozen norms and FFTs; the values are about 1
EXACT = {"atol": 1e-10, "rtol": 0}


@dataclass
class Part:
    """A part of a network, and what it says of itself.

    Arguments
    ---------
    module : torch.nn.Module
        The part.
    layout : str
        Dimensions of its input and its output, such as "BLC > BLC": B is the
        batch, L are frames and T are samples.
    channels : int
        All other dimensions of the input.
    run : Callable, optional
        ``run(x)`` gives the output as a tensor; ``module`` by default.
    told : Callable, optional
        ``told(x, lengths)`` gives that of a batch whose items end early.
    behind : float
        What stands behind the end then: NaN, or a large number for parts
        inside a network that has replaced what is not finite.
    multiple : int
        The lengths that it takes are multiples of this.
    length_out : Callable, optional
        The length of the output for one of the input; by default the same.
    """

    module: torch.nn.Module
    layout: str
    channels: int
    run: Callable | None = None
    told: Callable | None = None
    behind: float = float("nan")
    multiple: int = 1
    length_out: Callable = staticmethod(lambda length: length)

    def __post_init__(self):
        inputs, outputs = self.layout.split(" > ")
        self.inputs = inputs
        self.time_in = _time(inputs)
        self.time_out = _time(outputs)
        self.batch_out = outputs.index("B")
        self.lengths = [self.multiple * length for length in LENGTHS]
        self.run = self.run or self.module
        self.steps = hasattr(self.module, "step") and not getattr(
            self.module, "bidirectional", False
        )

    def draw(self, batch_size, length):
        """A random input."""
        sizes = {"B": batch_size, "L": length, "T": length}
        shape = [sizes.get(name, self.channels) for name in self.inputs]
        return torch.randn(shape, dtype=torch.float64)


def _time(dimensions):
    """Which of the dimensions is time."""
    return next(i for i, name in enumerate(dimensions) if name in "LT")


def check_contract(part):
    """Checks all that holds for a part; see the head of this file."""
    part.module.double()
    with torch.no_grad():  # leave the values of an initialisation, zeros first
        for parameter in part.module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    check_lengths(part)
    check_items(part)
    if part.told is not None:
        check_padding(part)
    check_gradients(part)
    if part.steps:
        check_steps(part)


@torch.no_grad()
def check_lengths(part):
    """Every length is taken, and gives a finite output as long as stated."""
    for length in part.lengths:
        y = part.run(part.draw(2, length))
        assert y.shape[part.time_out] == part.length_out(length), length
        assert y.isfinite().all(), f"not finite at length {length}"


@torch.no_grad()
def check_items(part):
    """A batch is its items, one by one."""
    for length in part.lengths:
        x = part.draw(3, length)
        alone = [part.run(item) for item in x.split(1)]
        torch.testing.assert_close(
            part.run(x), torch.cat(alone, part.batch_out), **EXACT
        )


@torch.no_grad()
def check_padding(part):
    """An item that ends early comes out as it does alone."""
    shortest, *_, longest = part.lengths
    counts = [longest, shortest, part.lengths[3], part.lengths[-2]]
    x = part.draw(len(counts), longest)
    items = x.split(1)
    alone = []
    for item, count in zip(items, counts, strict=True):
        alone.append(part.run(item.narrow(part.time_in, 0, count).clone()))
        item.narrow(part.time_in, count, longest - count).fill_(part.behind)
    together = part.told(x, torch.tensor(counts))
    for ours, expected in zip(
        together.split(1, part.batch_out), alone, strict=True
    ):
        length = expected.shape[part.time_out]
        torch.testing.assert_close(
            ours.narrow(part.time_out, 0, length), expected, **EXACT
        )


def check_gradients(part):
    """Gradients of the input and of all parameters are those of differences.

    The differences are of calls without gradients, which may go other ways.
    """
    x = part.draw(2, part.lengths[3]).requires_grad_()
    inputs = [x, *part.module.parameters()]
    y = part.run(x)
    weights = torch.randn_like(y)
    gradients = torch.autograd.grad((y * weights).sum(), inputs)
    ways = [torch.randn_like(value) for value in inputs]
    slope = sum(
        (gradient * way).sum()
        for gradient, way in zip(gradients, ways, strict=True)
    )
    sums = []
    with torch.no_grad():
        for distance in (-STEP, 2 * STEP):
            for value, way in zip(inputs, ways, strict=True):
                value.add_(distance * way)
            sums.append((part.run(x.detach()) * weights).sum())
    # Rounding to 1e-16 of sums of about 100 is 1e-8 of their difference.
    difference = (sums[1] - sums[0]) / (2 * STEP)
    torch.testing.assert_close(slope, difference, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def check_steps(part):
    """Any split of the input, into empty pieces too, gives the whole."""
    length = part.lengths[-1]
    x = part.draw(2, length)
    whole = part.run(x)
    splits = [[], [0], range(1, length), [1], [length // 2], [length - 1]]
    splits += [sorted(torch.randint(length, (4,)).tolist()) for _ in range(3)]
    for places in splits:
        state, parts = part.module.initial_state(len(x)), []
        for start, end in itertools.pairwise([0, *places, length]):
            piece = x.narrow(part.time_in, start, end - start)
            y, state = part.module.step(piece, state)
            parts.append(y)
        torch.testing.assert_close(
            torch.cat(parts, part.time_out), whole, **EXACT
        )
