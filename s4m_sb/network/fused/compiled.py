"""Operations of this folder in compiled code, for float32 signals on a CPU.

PyTorch's operators cannot be joined: a norm, a PReLU, a convolution and the
moments of what it gives are five passes over memory and more. Here they are
one loop (`kernels/`), and their gradients another. Each is an operator of
PyTorch, so that what exports or compiles a network sees one operator.

`fits` tells whether there are kernels for a signal; if not, the plain
operations of `deferred.py`, `depthwise.py` and `moments.py` do the same. The
kernels are built when the package is installed, if there is a C++ compiler;
``S4M_SB_KERNELS=off`` in the environment leaves them out.

Signals are ``[B, L, C]``; scale and shift, ``[B or 1, P, C]``, and the slope
of a PReLU, ``[1]``, say how they are read, see `Deferred`. ``valid``, ``[B]``,
are the frames of each item that count; None: all.

Above this file: `deferred.py`, `depthwise.py`. Below it:
`kernels/kernels.cpp`.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

CHANNELS = 16  # the number of channels is a multiple of it
TAPS = 5
BLOCK = 128  # frames that one thread takes at a time, as in kernels.cpp


def _load() -> ctypes.CDLL | None:
    if os.environ.get("S4M_SB_KERNELS", "").lower() in ("0", "off", "no"):
        return None
    for path in sorted(Path(__file__).parent.glob("_kernels*.so")):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(path))
            library.s4m_instruction_set(-1)
            return library
    return None


_library = _load()


def available() -> bool:
    """Whether there are kernels here."""
    return _library is not None


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Within it, the plain operations do everything."""
    global _library
    before, _library = _library, None
    try:
        yield
    finally:
        _library = before


def fits(
    signal: torch.Tensor,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    slope: torch.Tensor | None = None,
) -> bool:
    """Whether there are kernels for a signal that is read like this.

    Arguments
    ---------
    signal, scale, shift, slope : torch.Tensor
        See above.

    Returns
    -------
    bool
        True for float32 on a CPU, in order in memory, and sizes that the
        loops can take.
    """
    if (
        _library is None
        or signal.dtype != torch.float32
        or signal.device.type != "cpu"
        or signal.shape[-1] % CHANNELS
        or not signal.numel()
        or not signal.is_contiguous()
    ):
        return False
    if slope is not None and (slope.numel(), slope.dtype) != (1, torch.float32):
        return False
    if scale is None or shift is None:
        return scale is None
    frames = scale.shape[1]
    hold, rest = divmod(signal.shape[1], frames)
    return (
        scale.dtype == shift.dtype == torch.float32
        and shift.shape[1] == frames
        and not rest
        and (frames == 1 or BLOCK % hold == 0)
    )


# ------------------------------------------------------------------- records


def _record(
    before: dict[str, type], addresses: str, numbers: str = ""
) -> type[ctypes.Structure]:
    """A structure of kernels.cpp: other structures, addresses, numbers."""
    fields = list(before.items())
    fields += [(name, ctypes.c_void_p) for name in addresses.split()]
    fields += [(name, ctypes.c_int) for name in numbers.split()]
    return type("_Record", (ctypes.Structure,), {"_fields_": fields})


class _Input(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "scale", "shift", "valid")),
        ("slope", ctypes.c_float),
        *((name, ctypes.c_int) for name in ("sloped", *"BLCP", "items")),
    ]


_Conv = _record(
    {"input": _Input}, "weight bias out mean var", "stride left threads"
)
_ConvBackward = _record(
    {"input": _Input},
    "weight y gy level tilt x scale shift sums",
    "stride left threads",
)
_ReadBackward = _record({"input": _Input}, "gh x scale shift slopes", "threads")

_Gate = _record(
    {"gate": _Input, "value": _Input},
    "scale shift out_scale out_shift",
    "threads",
)
_GateBackward = _record(
    {"given": _Gate}, "of_scale of_shift of_gate of_value sums"
)


def _at(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _call(kernel: str, *arguments: Any) -> None:
    assert _library is not None  # `fits` has been asked
    getattr(_library, kernel)(*arguments)


class _Signal:
    """A signal and how it is read, for a kernel; keeps the memory alive."""

    def __init__(self, signal, scale=None, shift=None, slope=None, valid=None):
        self.signal, self.slope, self.valid = signal, slope, valid
        self.scale, self.shift = scale, shift
        self.frames = self.items = 1
        if scale is not None:
            self.items = max(scale.shape[0], shift.shape[0])
            self.frames = scale.shape[1]
            self.full = [
                value.expand(self.items, -1, -1).contiguous()
                for value in (scale, shift)
            ]
        else:
            self.full = [None, None]
        self.record = _Input(
            signal.data_ptr(),
            *map(_at, self.full),
            _at(valid),
            0.0 if slope is None else float(slope),
            slope is not None,
            *signal.shape,
            self.frames,
            self.items,
        )

    def places(self) -> list[int | None]:
        """Memory for the gradients of signal, scale and shift."""
        self.found = [torch.empty_like(self.signal)]
        if self.scale is None:
            return [*map(_at, self.found), None, None]
        for _ in range(2):
            place = _of_items(self.signal, self.frames)
            # The kernels add to those of several frames.
            self.found.append(place.zero_() if self.frames > 1 else place)
        return list(map(_at, self.found))

    def gradients(self, slopes: torch.Tensor) -> list[torch.Tensor]:
        """What a kernel has left there; nothing where nothing was read."""
        none = self.signal.new_empty(0)
        found = [
            gradient.sum_to_size(value.shape)
            for gradient, value in zip(
                self.found, (self.signal, self.scale, self.shift), strict=False
            )
        ]
        found += [none] * (3 - len(found))
        if self.slope is None:
            return [*found, none]
        return [*found, slopes.sum().reshape(self.slope.shape)]


def _of_items(signal: torch.Tensor, frames: int = 1) -> torch.Tensor:
    """Memory for a scale, say, ``[B, frames, C]``."""
    return signal.new_empty(signal.shape[0], frames, signal.shape[2])


def _of_moments(mean, grad_mean, grad_var, frames, valid):
    """The moments' part of a gradient: level + tilt · signal, ``[B, 1, C]``."""
    count = frames if valid is None else valid.view(-1, 1, 1)
    tilt = 2 * grad_var / count
    level = torch.addcmul(grad_mean / count, mean, tilt, value=-1)
    return level.contiguous(), tilt.contiguous()


def _taps(weight: torch.Tensor) -> torch.Tensor:
    """``[C, 1, 5]`` as the kernels have it, ``[5, C]``."""
    return weight.detach().squeeze(1).t().contiguous()


# ----------------------------------------------------------------- operators

_operators = torch.library.Library("s4m_sb", "FRAGMENT")
_READ = "Tensor signal, Tensor? scale, Tensor? shift, Tensor? slope"


def _operator(name: str, arguments: str, count: int):
    """Makes a function an operator on the CPU that gives tensors."""
    results = ", ".join(["Tensor"] * count)
    _operators.define(
        f"{name}({arguments}) -> {f'({results})' if count > 1 else results}"
    )

    def register(function):
        _operators.impl(name, function, "CPU")
        return function

    return register


@_operator("read", _READ, 1)
def _read(signal, scale, shift, slope):
    given = _Signal(signal, scale, shift, slope)
    out = torch.empty_like(signal)
    _call(
        "s4m_read", ctypes.byref(given.record), _p(out), torch.get_num_threads()
    )
    return out


@_operator("read_backward", f"{_READ}, Tensor grad", 4)
def _read_backward(signal, scale, shift, slope, grad):
    given = _Signal(signal, scale, shift, slope)
    grad = grad.contiguous()
    slopes = signal.new_empty(signal.shape[-1])
    record = _ReadBackward(
        given.record,
        grad.data_ptr(),
        *given.places(),
        slopes.data_ptr(),
        torch.get_num_threads(),
    )
    _call("s4m_read_backward", ctypes.byref(record))
    return tuple(given.gradients(slopes))


@_operator("moments", "Tensor signal, Tensor? valid", 2)
def _moments(signal, valid):
    given = _Signal(signal, valid=valid)
    mean, var = _of_items(signal), _of_items(signal)
    _call(
        "s4m_moments",
        ctypes.byref(given.record),
        _p(mean),
        _p(var),
        torch.get_num_threads(),
    )
    return mean, var


@_operator(
    "moments_backward",
    "Tensor signal, Tensor? valid, Tensor mean, Tensor grad, "
    "Tensor grad_mean, Tensor grad_var",
    1,
)
def _moments_backward(signal, valid, mean, grad, grad_mean, grad_var):
    given = _Signal(signal, valid=valid)
    level, tilt = _of_moments(mean, grad_mean, grad_var, signal.shape[1], valid)
    grad, out = grad.contiguous(), torch.empty_like(signal)
    _call(
        "s4m_moments_backward",
        ctypes.byref(given.record),
        *map(_p, (grad, level, tilt, out)),
        torch.get_num_threads(),
    )
    return out


_CONV = f"{_READ}, Tensor? valid, Tensor weight, int stride, int left"


@_operator("conv", f"{_CONV}, Tensor? bias", 3)
def _conv(signal, scale, shift, slope, valid, weight, stride, left, bias):
    given = _Signal(signal, scale, shift, slope, valid)
    B, L, C = signal.shape
    out = signal.new_empty(B, -(-L // stride), C)
    mean, var = _of_items(signal), _of_items(signal)
    taps, bias = _taps(weight), None if bias is None else bias.contiguous()
    record = _Conv(
        given.record,
        *map(_at, (taps, bias, out, mean, var)),
        stride,
        left,
        torch.get_num_threads(),
    )
    _call("s4m_conv", ctypes.byref(record))
    return out, mean, var


@_operator(
    "conv_backward",
    f"{_CONV}, Tensor out, Tensor mean, Tensor grad, Tensor grad_mean, "
    "Tensor grad_var",
    6,
)
def _conv_backward(
    signal,
    scale,
    shift,
    slope,
    valid,
    weight,
    stride,
    left,
    out,
    mean,
    grad,
    grad_mean,
    grad_var,
):
    given = _Signal(signal, scale, shift, slope, valid)
    counted = None if valid is None else -(-valid // stride)
    level, tilt = _of_moments(mean, grad_mean, grad_var, out.shape[1], counted)
    taps, grad = _taps(weight), grad.contiguous()
    sums = signal.new_empty(2 + TAPS, signal.shape[2])  # slope, taps, bias
    record = _ConvBackward(
        given.record,
        *map(_at, (taps, out, grad, level, tilt)),
        *given.places(),
        sums.data_ptr(),
        stride,
        left,
        torch.get_num_threads(),
    )
    _call("s4m_conv_backward", ctypes.byref(record))
    of_weight = sums[1:-1].t().unsqueeze(1).contiguous()
    return *given.gradients(sums[0]), of_weight, sums[-1].clone()


_GATE = ", ".join(
    f"Tensor {name}, Tensor {name}_scale, Tensor {name}_shift"
    for name in ("gate", "value")
)
_GATE += ", Tensor scale, Tensor shift"


@_operator("gate", _GATE, 2)
def _gate(*inputs):
    out_scale = torch.empty_like(inputs[0])
    out_shift = torch.empty_like(inputs[0])
    record, _kept = _gate_record(inputs, out_scale, out_shift)
    _call("s4m_gate", ctypes.byref(record))
    return out_scale, out_shift


@_operator("gate_backward", f"{_GATE}, Tensor of_scale, Tensor of_shift", 8)
def _gate_backward(*inputs):
    *given, of_scale, of_shift = inputs
    gate, *_ = given
    record, _kept = _gate_record(given, None, None)
    of_scale, of_shift = of_scale.contiguous(), of_shift.contiguous()
    of_gate, of_value = torch.empty_like(gate), torch.empty_like(gate)
    sums = gate.new_empty(6, gate.shape[0], 1, gate.shape[2])
    _call(
        "s4m_gate_backward",
        ctypes.byref(
            _GateBackward(
                record, *map(_at, (of_scale, of_shift, of_gate, of_value, sums))
            )
        ),
    )
    found = of_gate, sums[0], sums[1], of_value, *sums[2:]
    return tuple(
        gradient.sum_to_size(value.shape).clone()
        for gradient, value in zip(found, given, strict=True)
    )


def _gate_record(inputs, out_scale, out_shift):
    gate, gate_scale, gate_shift, value, value_scale, value_shift = inputs[:6]
    gate = _Signal(gate, gate_scale, gate_shift)
    value = _Signal(value, value_scale, value_shift)
    outer = [
        v.expand(gate.signal.shape[0], -1, -1).contiguous() for v in inputs[6:]
    ]
    record = _Gate(
        gate.record,
        value.record,
        *map(_at, (*outer, out_scale, out_shift)),
        torch.get_num_threads(),
    )
    return record, (gate, value, outer)


def _p(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


# What they give, without giving it: for export and compilation.


@torch.library.register_fake("s4m_sb::read", lib=_operators)
def _(signal, scale, shift, slope):
    return torch.empty_like(signal)


@torch.library.register_fake("s4m_sb::moments", lib=_operators)
def _(signal, valid):
    shape = signal.shape[0], 1, signal.shape[2]
    return signal.new_empty(shape), signal.new_empty(shape)


@torch.library.register_fake("s4m_sb::moments_backward", lib=_operators)
def _(signal, valid, mean, grad, grad_mean, grad_var):
    return torch.empty_like(signal)


@torch.library.register_fake("s4m_sb::conv", lib=_operators)
def _(signal, scale, shift, slope, valid, weight, stride, left, bias):
    B, L, C = signal.shape
    return (
        signal.new_empty(B, -(-L // stride), C),
        signal.new_empty(B, 1, C),
        signal.new_empty(B, 1, C),
    )


@torch.library.register_fake("s4m_sb::gate", lib=_operators)
def _(gate, *others):
    return torch.empty_like(gate), torch.empty_like(gate)


@torch.library.register_fake("s4m_sb::gate_backward", lib=_operators)
def _(*inputs):
    return tuple(torch.empty_like(value) for value in inputs[:-2])


@torch.library.register_fake("s4m_sb::read_backward", lib=_operators)
def _(signal, scale, shift, slope, grad):
    return tuple(
        signal.new_empty(0) if value is None else torch.empty_like(value)
        for value in (signal, scale, shift, slope)
    )


@torch.library.register_fake("s4m_sb::conv_backward", lib=_operators)
def _(signal, scale, shift, slope, valid, weight, *others):
    return tuple(
        signal.new_empty(0) if value is None else torch.empty_like(value)
        for value in (signal, scale, shift, slope, weight)
    ) + (signal.new_empty(signal.shape[2]),)


# ------------------------------------------------------------- their gradients


def _keep_conv(ctx, inputs, output):
    *parts, valid, weight, stride, left, bias = inputs
    ctx.stride, ctx.left, ctx.has_bias = stride, left, bias is not None
    ctx.save_for_backward(*parts, valid, weight, *output[:2])


def _differentiate_conv(ctx, grad, grad_mean, grad_var):
    *parts, valid, weight, out, mean = ctx.saved_tensors
    *gradients, of_weight, of_bias = torch.ops.s4m_sb.conv_backward(
        *parts,
        valid,
        weight,
        ctx.stride,
        ctx.left,
        out,
        mean,
        grad,
        grad_mean,
        grad_var,
    )
    return (
        *_those_there(gradients, parts),
        None,
        of_weight,
        None,
        None,
        of_bias if ctx.has_bias else None,
    )


torch.library.register_autograd(
    "s4m_sb::conv",
    _differentiate_conv,
    setup_context=_keep_conv,
    lib=_operators,
)


def _keep_gate(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _differentiate_gate(ctx, of_scale, of_shift):
    return torch.ops.s4m_sb.gate_backward(
        *ctx.saved_tensors, of_scale, of_shift
    )


torch.library.register_autograd(
    "s4m_sb::gate",
    _differentiate_gate,
    setup_context=_keep_gate,
    lib=_operators,
)


class _WithMoments(torch.autograd.Function):
    """A signal and its moments; one pass makes one gradient of all three."""

    @staticmethod
    def forward(ctx, signal, valid):
        mean, var = torch.ops.s4m_sb.moments(signal, valid)
        ctx.save_for_backward(signal, valid, mean)
        return signal.view_as(signal), mean, var

    @staticmethod
    def backward(ctx, grad, grad_mean, grad_var):
        signal, valid, mean = ctx.saved_tensors
        return torch.ops.s4m_sb.moments_backward(
            signal, valid, mean, grad, grad_mean, grad_var
        ), None


def _those_there(gradients, inputs):
    """None in place of the gradient of nothing."""
    return tuple(
        None if value is None else gradient
        for gradient, value in zip(gradients, inputs, strict=True)
    )


# --------------------------------------------------------------------- for use


def read(
    signal: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    slope: torch.Tensor | None,
) -> torch.Tensor:
    """PReLU(signal · scale + shift), ``[B, L, C]``, without gradients."""
    return torch.ops.s4m_sb.read(signal, scale, shift, slope)


def read_backward(
    signal: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    slope: torch.Tensor | None,
    grad: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of what `read` was given, from that of what it gave."""
    parts = signal, scale, shift, slope
    return _those_there(torch.ops.s4m_sb.read_backward(*parts, grad), parts)


def with_moments(
    signal: torch.Tensor, valid: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The signal, to be read on, and its mean and variance, ``[B, 1, C]``."""
    if not torch.is_grad_enabled():
        return signal, *torch.ops.s4m_sb.moments(signal, valid)
    return _WithMoments.apply(signal, valid)


def conv(
    signal: torch.Tensor,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    slope: torch.Tensor | None,
    valid: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    left: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A depthwise convolution of what is read, and its moments.

    Arguments
    ---------
    signal, scale, shift, slope, valid : torch.Tensor
        See above; what does not count is silence.
    weight, bias : torch.Tensor
        ``[C, 1, 5]`` and ``[C]`` or None.
    stride : int
        1 or 2.
    left : int
        Zeros before the first frame, 2 or 4.

    Returns
    -------
    torch.Tensor
        The signal, ``[B, ceil(L / stride), C]``.
    torch.Tensor
        Its mean, ``[B, 1, C]``.
    torch.Tensor
        Its variance, ``[B, 1, C]``.
    """
    return torch.ops.s4m_sb.conv(
        signal, scale, shift, slope, valid, weight, stride, left, bias
    )


def gate(
    gate: torch.Tensor,
    gate_scale: torch.Tensor,
    gate_shift: torch.Tensor,
    value: torch.Tensor,
    value_scale: torch.Tensor,
    value_shift: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``scale · s`` and ``shift · s + value``, s the sigmoid of the gate.

    Arguments
    ---------
    gate, value : torch.Tensor
        ``[B, L, C]``, to be read with their scales and shifts.
    gate_scale, gate_shift, value_scale, value_shift : torch.Tensor
        ``[B or 1, 1, C]``.
    scale, shift : torch.Tensor
        Those of the signal that is gated, ``[B or 1, 1, C]``.

    Returns
    -------
    torch.Tensor
        The scale of the gated signal, ``[B, L, C]``.
    torch.Tensor
        Its shift, ``[B, L, C]``.
    """
    return torch.ops.s4m_sb.gate(
        gate,
        gate_scale,
        gate_shift,
        value,
        value_scale,
        value_shift,
        scale,
        shift,
    )
