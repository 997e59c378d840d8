"""Errors as one line, whoever raised them."""

import pickle

import pytest
import torch

from s4m_sb.errors import InputError, first_line, one_line


class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError("a.wav:\nis empty")


def test_it_is_a_value_error_that_travels_between_processes():
    error = InputError("a.wav: is empty")
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (InputError, "a.wav: is empty")


def test_lines_become_one():
    assert one_line(InputError("a.wav:\n  is\n\nempty\n")) == "a.wav: is empty"


def test_of_a_worker_the_last_word_counts():
    loader = torch.utils.data.DataLoader(Failing(), num_workers=1)
    with pytest.raises(InputError) as caught:
        next(iter(loader))
    assert "Traceback" in str(caught.value)
    assert one_line(caught.value) == "a.wav: is empty"


def test_advice_on_how_to_have_a_yaml_taken_is_left_out():
    error = ValueError('found duplicate key "a"\n\nTo suppress this check see:')
    assert one_line(error) == 'found duplicate key "a"'


@pytest.mark.parametrize(
    "error, line",
    [
        (OSError("no answer\nMax retries exceeded"), "no answer"),
        (OSError("\n no answer"), "no answer"),
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("  \n"), "TimeoutError"),
    ],
)
def test_the_head_of_a_long_error(error, line):
    assert first_line(error) == line
