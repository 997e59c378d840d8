"""Groups of parameters: the state-space dynamics have one of their own."""

import functools

import pytest
import torch
from small_brain import make_brain, s4m, sepformer

from s4m_sb.network.masknet import S4MMaskNet
from s4m_sb.training.optimizer import SSM_LR_LIMIT


def is_dynamic(name):
    return name.split(".")[-1] in ("log_A_real", "A_imag", "P", "B", "log_dt")


@pytest.mark.parametrize("kernel", ["s4", "s4d"])
@pytest.mark.parametrize("vectors", [False, True])
def test_dynamics_have_a_group_of_their_own(tmp_path, kernel, vectors):
    modules = s4m()
    modules["masknet"] = S4MMaskNet(
        2, 8, 6, 8, num_scales=3, num_repeats=2, kernel=kernel
    )
    brain = make_brain(
        tmp_path,
        modules,
        optimizer=functools.partial(
            torch.optim.AdamW, lr=0.02, weight_decay=0.1
        ),
        run_opts={"remove_vector_weight_decay": vectors},
    )
    brain.init_optimizers()
    groups = brain.optimizer.param_groups
    placed = [id(p) for group in groups for p in group["params"]]
    assert len(set(placed)) == len(placed)
    assert set(placed) == {id(p) for p in brain.modules.parameters()}
    names = {id(p): n for n, p in brain.modules.named_parameters()}
    slow = [names[id(p)] for p in groups[-1]["params"]]
    assert sorted(slow) == sorted(filter(is_dynamic, names.values()))
    kinds = {name.split(".")[-1] for name in slow}
    assert kinds == {"log_A_real", "A_imag", "B", "log_dt"} | (
        {"P"} if kernel == "s4" else set()
    )
    assert groups[-1]["weight_decay"] == 0
    assert groups[-1]["lr"] == SSM_LR_LIMIT
    assert groups[0]["lr"] == 0.02
    assert any(group["weight_decay"] == 0.1 for group in groups)


def test_a_small_rate_is_the_same_for_all(tmp_path):
    brain = make_brain(tmp_path, lr=1e-4)
    brain.init_optimizers()
    assert [g["lr"] for g in brain.optimizer.param_groups] == [1e-4, 1e-4]


def test_other_networks_have_one_group(tmp_path):
    brain = make_brain(tmp_path, sepformer(), lr=0.02)
    brain.init_optimizers()
    (group,) = brain.optimizer.param_groups
    assert len(group["params"]) == len(list(brain.modules.parameters()))
    assert group["lr"] == 0.02
