"""Devices that are not there are refused in one line."""

import pytest
import torch

from s4m_sb.errors import InputError
from s4m_sb.system.devices import check_device


@pytest.mark.parametrize("name", ["abacus", "cuda:x", "cpu:", "meta", ""])
def test_what_cannot_compute_is_named(name):
    with pytest.raises(InputError) as caught:
        check_device(name)
    message = str(caught.value)
    assert message.startswith(f"--device {name}: ")
    assert "\n" not in message and len(message) < 200


def test_a_gpu_that_is_not_there_is_no_traceback():
    with pytest.raises(InputError, match="--device cuda:99: "):
        check_device(f"cuda:{max(99, torch.cuda.device_count())}")


def test_the_cpu_is_everywhere():
    check_device("cpu")
