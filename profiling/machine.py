"""Prints the facts of this machine as JSON: versions, the GPU and its driver, or why nothing can run on one.

    python -m profiling.machine

A process of its own, so that whoever asks keeps no context on the GPU.
"""

from __future__ import annotations

import json

import torch

from emnesy_gpu.benchmarks.measure import machine
from emnesy_gpu.doctor import driver_version
from profiling.requirements import missing_gpu


def facts() -> dict[str, object]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = machine(device) | {"driver": driver_version(), "gpu missing": missing_gpu()}
    return {name: value for name, value in found.items() if value is not None}


if __name__ == "__main__":
    print(json.dumps(facts(), indent=1))
