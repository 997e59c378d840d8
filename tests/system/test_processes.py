"""Processes do the tasks in order, and end with whoever began them."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from process_groups import begun, group_lives, kill_first

from s4m_sb.errors import InputError
from s4m_sb.system.processes import num_cores, run_jobs


def double(task):
    return 2 * task, os.getpid()


def about_the_process(task):
    handler = signal.getsignal(signal.SIGINT)
    return torch.get_num_threads(), handler == signal.SIG_IGN


def refuse(task):
    raise InputError(f"task {task} cannot be done")


def die(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_from_other_processes():
    results = list(run_jobs(double, range(20), 2))
    assert [value for value, _ in results] == list(range(0, 40, 2))
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize("num_jobs, tasks", [(1, [1, 2, 3]), (4, [7])])
def test_one_process_or_task_needs_no_other(num_jobs, tasks):
    here = os.getpid()
    expected = [(2 * task, here) for task in tasks]
    assert list(run_jobs(double, tasks, num_jobs)) == expected


def test_processes_have_one_thread_and_leave_interrupts_alone():
    assert set(run_jobs(about_the_process, range(4), 2)) == {(1, True)}


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_errors_arrive(num_jobs):
    with pytest.raises(InputError, match="^task 0 cannot be done$"):
        list(run_jobs(refuse, range(3), num_jobs))


def test_a_killed_process_is_one_clear_error():
    with pytest.raises(InputError, match="one of the 2 processes was killed"):
        list(run_jobs(die, range(3), 2))


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system cannot"
)
def test_cores_are_those_that_the_process_may_use():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(allowed)])
        assert num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert num_cores() == len(allowed)


def test_no_process_is_refused():
    with pytest.raises(InputError, match="num_jobs is 0"):
        list(run_jobs(double, [1], 0))


def test_the_bar_counts_what_was_done_before(capsys):
    list(run_jobs(double, range(3), 1, progress=True, unit="room", num_done=2))
    assert "5/5" in capsys.readouterr().err


HEARD = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
LONG = """
import time
from s4m_sb.system.processes import num_cores, run_jobs
for _ in run_jobs(time.sleep, [0, 0, 60, 60], num_jobs=2):
    print("begun", flush=True)
"""


@pytest.mark.parametrize("interrupted", [False, True])
def test_processes_end_with_the_one_that_began_them(interrupted):
    with begun([sys.executable, "-c", LONG], **HEARD) as process:
        assert process.stdout.readline() == b"begun\n"
        if interrupted:
            # Ctrl-C goes to all of them. Only the first one hears it, and
            # waits for the tasks at hand; here it is then killed.
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.3)
            assert process.poll() is None
        kill_first(process, within_s=30)


WRITES = """
import pathlib, sys, time
from s4m_sb.system.files import replacing
from s4m_sb.system.processes import run_jobs
folder = pathlib.Path(sys.argv[1])
def write(number):
    with replacing(folder / f"{number}.txt") as path, open(path, "w") as file:
        print("half", file=file, flush=True)
        time.sleep(1)
        file.write("whole")
    return number
for number in run_jobs(write, range(9), num_jobs=2):
    print(number, flush=True)
"""


def test_an_interrupt_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-c", WRITES, str(tmp_path)]
    with begun(command, **HEARD) as process:
        assert process.stdout.readline() == b"0\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == -signal.SIGINT  # a shell says 130
        assert not group_lives(process.pid)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert 2 <= len(written) < 9
    assert set(written.values()) == {"half\nwhole"}
    assert set(written) <= {f"{number}.txt" for number in range(9)}
