"""Measures time and memory of networks, each case in a process of its own.

`speed.py` starts it with what all cases share as JSON, and sends a line of
JSON for each case. It is answered by a line: the case with its results, or
with a ``mark`` that says why there are none: "memory", "time" or "failed".
The libraries are loaded once, and each case is a fork of this process, so
that it starts at once and its memory is its own.

Above this file: `speed.py`. Below it: `speed_networks.py`.
"""

import gc
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from cost import peak  # noqa: E402
from networks import count_macs, count_parameters  # noqa: E402
from speed_networks import ROWS, build  # noqa: E402
from torch import nn  # noqa: E402

from s4m_sb.metrics import pit_si_snr_loss  # noqa: E402
from s4m_sb.network.separate import separate  # noqa: E402
from s4m_sb.system.memory import keep_freed_memory  # noqa: E402

WARM_UP_S = 0.25  # loads what the libraries load at their first use
NUM_SPKS = 2
STATUS = Path("/proc/self/status")
NO_MEMORY = ("allocate memory", "bad_alloc", "out of memory")
Modules = dict[str, nn.Module]
Case = dict[str, object]
EXACT = nullcontext()  # float32


def count_size(case: Case, job: dict) -> dict:
    """Parameters, and operations for one second."""
    modules = build(case["model"], job["options"])
    for module in modules.values():
        module.eval()
    num_samples = ROWS[case["model"]]["sample_rate"]
    return {
        "parameters": count_parameters(modules),
        "macs_per_s": count_macs(modules, num_samples),
    }


def measure_first_call(case: Case, job: dict) -> dict:
    """Time of the first call in a process."""
    call = prepare(case, job)
    signal_of = draw_signal(case, job)
    limit(job)
    return {"first_s": stopwatch(call, signal_of, job["device"])}


def measure_memory(case: Case, job: dict) -> dict:
    """The most memory that a call takes on top of the loaded network."""
    call = prepare(case, job)
    call(draw_signal({**case, "length_s": WARM_UP_S}, job))
    signal_of = draw_signal(case, job)
    limit(job)
    gc.collect()
    device = torch.device(job["device"])
    before = start_peak(device)
    called_s = stopwatch(call, signal_of, job["device"])
    return {"peak_bytes": read_peak(device) - before, "called_s": called_s}


def measure_times(case: Case, job: dict) -> dict:
    """Times of several networks that take turns.

    ``runs`` of the case are cases of one network. What does not fit into
    memory gets no times.
    """
    runs = case["runs"]
    calls = [prepare(run, job) for run in runs]
    signals = [draw_signal(run, job) for run in runs]
    times: list[list[float]] = [[] for _ in runs]
    limit({**job, "limit_s": None})
    for turn in range(case["repetitions"] + 1):
        for run, call, signal_of, seconds in zip(
            runs, calls, signals, times, strict=True
        ):
            if turn == 0 and run["length_s"] > case["warm_up_s"]:
                start = {**run, "length_s": case["warm_up_s"]}
                call(draw_signal(start, job))
                continue
            try:
                called_s = stopwatch(call, signal_of, job["device"])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                called_s = float("nan")
            if turn > 0:
                seconds.append(called_s)
    return {"times_s": times}


def prepare(case: Case, job: dict) -> Callable[[torch.Tensor], None]:
    """What is to be measured, as a function of mixtures ``[B, T]``."""
    device = torch.device(job["device"])
    torch.set_num_threads(job["threads"])
    torch.backends.cudnn.allow_tf32 = job["precision"] == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = job["precision"] == "tf32"
    torch.manual_seed(0)
    options = dict(job["options"])
    if case["checkpoint"]:
        options["checkpoint_repeats"] = True
    modules = build(case["model"], options)
    for module in modules.values():
        module.to(device).train(case["training"])
    call = training_step if case["training"] else inference
    cast = torch.autocast(device.type, torch.bfloat16)
    return call(modules, cast if job["precision"] == "bf16" else EXACT)


def inference(
    modules: Modules, cast: AbstractContextManager = EXACT
) -> Callable[[torch.Tensor], None]:
    """Separation without gradients."""

    @torch.inference_mode()
    def call(mixture):
        with cast:
            separate(mixture, None, **modules)

    return call


def training_step(
    modules: Modules, cast: AbstractContextManager = EXACT
) -> Callable[[torch.Tensor], None]:
    """One update by PIT SI-SNR, clipped gradients and Adam."""
    parameters = [p for m in modules.values() for p in m.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)

    def call(mixture):
        generator = torch.Generator(mixture.device).manual_seed(1)
        shape = (*mixture.shape, NUM_SPKS)
        target = torch.randn(shape, generator=generator, device=mixture.device)
        optimizer.zero_grad()
        with cast:
            estimate = separate(mixture, None, **modules)
        estimate = estimate.float()
        pit_si_snr_loss(target=target, estimate=estimate).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()

    return call


def draw_signal(case: Case, job: dict) -> torch.Tensor:
    """Noise of the length of the case, ``[B, T]``."""
    generator = torch.Generator().manual_seed(0)
    rate = ROWS[case["model"]]["sample_rate"]
    shape = case["batch_size"], round(case["length_s"] * rate)
    mixture = torch.randn(shape, generator=generator)
    return mixture.to(job["device"])


def stopwatch(
    call: Callable[[torch.Tensor], None], mixture: torch.Tensor, device: str
) -> float:
    """Seconds that a call takes."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call(mixture)
    if on_gpu:
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


# ----------------------------------------------------------------- memory


def start_peak(device: torch.device) -> int:
    """Forgets the peak so far; bytes that are in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return read_status("VmRSS")
    except OSError:  # not on Linux: the peak of loading stays in
        return peak(device)


def read_peak(device: torch.device) -> int:
    """The most bytes in use since `start_peak`."""
    if device.type == "cuda" or not STATUS.exists():
        return peak(device)
    return read_status("VmHWM")


def read_status(name: str) -> int:
    """A size that Linux knows of this process, in bytes."""
    for line in STATUS.read_text("utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS}: no {name}")


def limit(job: dict) -> None:
    """From here on no more than so much time and memory."""
    if job["limit_s"]:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, job["limit_s"])
    if job["memory_gib"] and job["device"] == "cpu" and STATUS.exists():
        most = read_status("VmData") + round(job["memory_gib"] * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what went wrong."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in NO_MEMORY
    )


# -------------------------------------------------------------- processes

KINDS = {
    "size": count_size,
    "first": measure_first_call,
    "memory": measure_memory,
    "times": measure_times,
}


def in_child(case: Case, job: dict, connection) -> None:
    """Measures in a forked process and sends what it finds."""
    try:
        found = KINDS[case["kind"]](case, job)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        found = {"mark": "memory"}
    connection.send(found)


def measure(case: Case, job: dict) -> dict:
    """Measures a case in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=in_child, args=(case, job, sender), daemon=True
    )
    process.start()
    sender.close()
    try:
        found = receiver.recv()
    except EOFError:
        found = {}
    process.join()
    if not found:
        marks = {-signal.SIGALRM: "time", -signal.SIGKILL: "memory"}
        found = {"mark": marks.get(process.exitcode, "failed")}
    return found


def main() -> None:
    """Measures the cases that come in."""
    # Whoever ends this process ends the case that it measures.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    keep_freed_memory()  # as `s4m` and the recipes do
    job = json.loads(sys.argv[1])
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps({**case, **measure(case, job)}), flush=True)


if __name__ == "__main__":
    if sys.platform == "darwin":
        os.environ.setdefault("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")
    main()
