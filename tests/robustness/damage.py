"""Runs that are killed, or whose disk is full: they resume to the bit. Damaged files: refused, or without effect."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import emnesy_gpu as em
from emnesy_gpu.cli import main
from emnesy_gpu.errors import CircuitFileError
from emnesy_gpu.tasks.files.errors import DataError
from emnesy_gpu.tasks.warcraft import files as map_files
from tests.robustness.faults import FAULTS, MOST_CALLS_OF_A_RUN, Fault, failing
from tests.robustness.kernel_programs import Program
from tests.robustness.runs import arguments, resume
from tests.train_runs import assert_same_run

EPOCHS = 3
LONGEST_RUN = 0.4
"""Seconds of processor time after which a run of so many epochs is usually done."""


def in_child(words: Sequence[str], seconds: float | None = None, number: int = 0, limit: int | None = None) -> int:
    """Run a command in a forked child; returns the wait status. It gets a full disk, or a signal.

    seconds: of its processor time, before the signal: on a busy machine as on an idle one, it hits all of a run.
    """
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            os._exit(main([*words]))
        finally:
            os._exit(99)  # an exception that is no error of the user
    if seconds is not None:
        ended = _sleep_while_it_computes(child, seconds)
        if ended is not None:
            return ended
        os.kill(child, number)
    return os.waitpid(child, 0)[1]


def _sleep_while_it_computes(child: int, seconds: float) -> int | None:
    """Wait until a child has computed for so long; its wait status if it ends before."""
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        user, system = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        if (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") >= seconds:
            return None
        time.sleep(0.005)


def begin_or_resume(folder: Path) -> list[str]:
    return resume(folder) if (folder / "config.json").exists() else arguments(folder, EPOCHS)


def kill_and_resume(whole: Path, folder: Path, random: np.random.Generator) -> Counter[str]:
    """Kill a run up to five times, then let it end; returns how many signals and full disks it has met."""
    shutil.rmtree(folder, ignore_errors=True)
    faults: Counter[str] = Counter()
    for _ in range(int(random.integers(1, 6))):
        if random.random() < 0.2:
            faults["full disks"] += 1
            limit = int(random.integers(0, 1_500_000))
            status = in_child(begin_or_resume(folder), limit=limit)
            assert os.waitstatus_to_exitcode(status) in (0, 1), f"limit {limit}: status {status}"
        else:
            number = int(random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
            status = in_child(begin_or_resume(folder), random.uniform(0, LONGEST_RUN), number)
            code = os.waitstatus_to_exitcode(status)
            assert code in (0, -number, 128 + number), f"signal {number}: status {status}"
            faults["kills" if code else "runs that ended before"] += 1
    assert in_child(begin_or_resume(folder)) == 0
    assert_same_run(whole, folder)
    return faults


def fail_and_resume(whole: Path, folder: Path, number: int, fault: Fault) -> bool | None:
    """Fail a write call of a run, then go on to the same bits; returns whether it ended; None: it makes fewer calls."""
    shutil.rmtree(folder, ignore_errors=True)
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        with failing(number, fault) as calls:
            code = main(begin_or_resume(folder))
        if not calls.failed:
            return None
        assert (code, errors.getvalue().count("\n")) in ((0, 0), (1, 1)), errors.getvalue()
        assert main(begin_or_resume(folder)) == 0
    assert_same_run(whole, folder)
    return code != 0


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Flip a bit, cut, extend, or replace."""
    kind = random.integers(5)
    if kind == 0 and content:
        flipped = bytearray(content)
        flipped[random.integers(len(content))] ^= 1 << random.integers(8)
        return bytes(flipped)
    if kind == 1:
        return content[: random.integers(len(content) + 1)]
    if kind == 2:
        return content + random.bytes(random.integers(1, 50))
    if kind == 3:
        return random.bytes(random.integers(0, 200))
    start = int(random.integers(len(content) + 1))
    return content[:start] + random.bytes(8) + content[start + 8 :]


def fail_a_write(whole: Path, folder: Path, random: np.random.Generator) -> bool:
    """Fail some write call of a run, and resume it; returns whether that ended it."""
    fault = FAULTS[str(random.choice(list(FAULTS)))]
    return bool(fail_and_resume(whole, folder, int(random.integers(1, MOST_CALLS_OF_A_RUN)), fault))


def damage_run(half: Path, whole: Path, folder: Path, random: np.random.Generator) -> bool:
    """Damage a file of a run and resume it; returns whether that was refused. Else it must end as without damage."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(half, folder)
    path = folder / str(random.choice(["checkpoint.pt", "config.json", "metrics.jsonl", ".lock"]))
    path.write_bytes(damaged(path.read_bytes(), random))
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        code = main(resume(folder))
    if code == 0:
        if path.name != "config.json":
            assert_same_run(whole, folder)
        return False
    assert code == 1
    assert errors.getvalue().count("\n") == 1
    assert str(folder) in errors.getvalue()
    return True


def damage_circuit(circuit: em.Circuit, folder: Path, random: np.random.Generator) -> bool:
    """Damage the file of a circuit and load it; returns whether that was refused. Else it must be the same circuit."""
    path = folder / "circuit.npz"
    circuit.save(path)
    path.write_bytes(damaged(path.read_bytes(), random))
    try:
        loaded = em.Circuit.load(path)
    except CircuitFileError as error:
        if str(path) not in str(error):
            raise AssertionError(f"{error!r} names no file") from error
        return True
    logits = torch.from_numpy(random.normal(0, 1, (1, *circuit.latent_shape, circuit.cardinality)))
    label = circuit.label(logits.argmax(-1))
    first, second = (em.posterior(problem, logits, label) for problem in (circuit, loaded))
    assert first.marginals.equal(second.marginals)
    return False


def damage_kernel_cache(program: Program, random: np.random.Generator) -> bool:
    """Damage a file of machine code and run its kernel; returns whether it was compiled anew. It must be right."""
    program.run()
    path = program.files()[random.integers(len(program.files()))]
    path.write_bytes(damaged(path.read_bytes(), random))
    anew = program.run() == 0
    assert program.run() == 1
    return anew


def damage_maps(source: Path, folder: Path, size: int, random: np.random.Generator) -> bool:
    """Damage a file of maps and read them; returns whether that was refused with the name of the file."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    path = folder / str(random.choice([path.name for path in folder.iterdir()]))
    path.write_bytes(damaged(path.read_bytes(), random))
    try:
        map_files.read(folder, size)
    except DataError as error:
        if str(folder) not in str(error):
            raise AssertionError(f"{error!r} names no file") from error
        return True
    return False
