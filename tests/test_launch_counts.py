"""An E-step on a GPU takes few launches and no transfer between host and device, so that a CUDA graph can hold it."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not launched", allow_module_level=True)

from tests.launch_counts import E_STEPS, GPU, PROMISED, EStep, counted


@pytest.mark.parametrize("step", [pytest.param(step, id=step.name.replace(" ", "-")) for step in E_STEPS])
def test_launches_and_transfers(step: EStep) -> None:
    found = step.counts()
    assert len(found.own) + len(found.torch) <= step.launches
    assert found.transfers == []


def test_engines_keep_their_promise() -> None:
    assert [step.name for step in E_STEPS if step.launches > PROMISED.get(type(step.engine), step.launches)] == []


def test_transfers_and_launches_are_seen() -> None:
    with counted() as found:
        values = torch.empty(3, device=GPU)
        torch.tensor([1.0], device=GPU), torch.zeros(3).to(GPU)
        (values.view(3, 1) + 1.0).flatten()
        with pytest.raises(RuntimeError):
            bool(values.any())
    assert found.transfers == ["tensor", "_to_copy", "_local_scalar_dense"]
    assert found.torch == ["add", "any"]
