"""Run a batch of CTAs in lockstep.

Lanes at the same instruction form a group. The group with the lowest program counter runs until it reaches the next
group, a divergent branch or a barrier; groups that meet merge. This visits both sides of a branch before the code
after it, as reconvergence hardware does for structured control flow.
"""

from __future__ import annotations

import numpy as np

from profiling.gpu_simulator.active import ActiveSet
from profiling.gpu_simulator.decoder import Control, Step
from profiling.gpu_simulator.errors import BarrierDeadlock, EndlessLoop
from profiling.gpu_simulator.lanes import Lanes

_NOWHERE = 1 << 60


class Executor:
    """One run of a program over one batch."""

    def __init__(self, lanes: Lanes, max_steps: int) -> None:
        self._lanes = lanes
        self._steps = lanes.launch.program.steps
        self._budget = max_steps
        self._groups: dict[int, ActiveSet] = {}
        self._alive = lanes.existing.as_mask().copy()
        self._waiting_at = np.full(lanes.count, -1, np.int64)
        self._thread_counts = [0] * len(self._steps)
        self._warp_count = 0

    def run(self) -> None:
        self._schedule(0, self._lanes.existing)
        with np.errstate(all="ignore"):
            while self._groups:
                program_counter = min(self._groups)
                group = self._groups.pop(program_counter)
                self._run_group(program_counter, group, min(self._groups, default=_NOWHERE))
        waiting = self._waiting_at >= 0
        if waiting.any():
            step = self._steps[self._waiting_at[waiting][0]]
            message = f"{int(waiting.sum())} threads wait at a barrier that the rest of their CTA never reaches, at "
            raise BarrierDeadlock(message + str(step.instruction))
        self._count_instructions()

    def _run_group(self, program_counter: int, group: ActiveSet, stop: int) -> None:
        """Run straight on until `stop`, where another group waits, or until the group splits or parks."""
        while program_counter < len(self._steps):
            step = self._steps[program_counter]
            active = self._guarded(step, group)
            self._charge(program_counter, step, group, active)
            if step.control is Control.NONE:
                if active.count:
                    step.action(self._lanes, active)  # type: ignore[misc]
                program_counter += 1
            elif step.control is Control.BRANCH:
                following = self._branch(program_counter, step, group, active)
                if following is None:
                    return
                if following <= program_counter:
                    self._schedule(following, group)
                    return
                program_counter = following
            else:
                self._leave(program_counter, step, group, active)
                return
            if program_counter >= stop:
                self._schedule(program_counter, group)
                return
        self._alive[group.as_mask()] = False
        self._release_barriers()

    def _guarded(self, step: Step, group: ActiveSet) -> ActiveSet:
        if step.guard is None:
            return group
        condition = self._lanes.registers[step.guard]
        return group.where(~condition if step.guard_negated else condition)

    def _charge(self, program_counter: int, step: Step, group: ActiveSet, active: ActiveSet) -> None:
        self._budget -= 1
        if self._budget < 0:
            raise EndlessLoop(f"step limit reached at {step.instruction}")
        self._thread_counts[program_counter] += active.count
        self._warp_count += group.n_warps

    def _branch(self, program_counter: int, step: Step, group: ActiveSet, taken: ActiveSet) -> int | None:
        """The next program counter of the whole group, or None where it splits."""
        if taken.count == group.count:
            return step.target
        if taken.count == 0:
            return program_counter + 1
        if self._lanes.launch.counters:
            self._lanes.launch.counters.divergent_branches += 1
        self._schedule(step.target, taken)
        self._schedule(program_counter + 1, group.without(taken))
        return None

    def _leave(self, program_counter: int, step: Step, group: ActiveSet, active: ActiveSet) -> None:
        """Exit, or wait at a barrier; lanes whose guard is false go on."""
        mask = active.as_mask()
        if step.control is Control.EXIT:
            self._alive[mask] = False
        else:
            self._waiting_at[mask] = program_counter
        if active.count < group.count:
            self._schedule(program_counter + 1, group.without(active))
        self._release_barriers()

    def _release_barriers(self) -> None:
        """A CTA passes its barrier when every living thread waits."""
        waiting = (self._waiting_at >= 0).reshape(self._lanes.n_ctas, -1)
        alive = self._alive.reshape(waiting.shape)
        complete = (waiting | ~alive).all(axis=1) & waiting.any(axis=1)
        if not complete.any():
            return
        places = self._waiting_at.reshape(waiting.shape)
        released = waiting & complete[:, None]
        lowest = np.where(released, places, _NOWHERE).min(axis=1)
        highest = np.where(released, places, -1).max(axis=1)
        if (lowest[complete] != highest[complete]).any():
            first = self._steps[int(lowest[complete][0])]
            raise BarrierDeadlock(f"threads of one CTA meet at different barriers, one of them at {first.instruction}")
        flat = released.reshape(-1)
        for place in np.unique(lowest[complete]):
            self._schedule(int(place) + 1, ActiveSet(self._lanes.count, flat & (self._waiting_at == place)))
        self._waiting_at[flat] = -1
        self._lanes.pass_barrier(flat, int(complete.sum()))

    def _schedule(self, program_counter: int, lanes: ActiveSet) -> None:
        if lanes.count:
            present = self._groups.get(program_counter)
            self._groups[program_counter] = lanes if present is None else present.union(lanes)

    def _count_instructions(self) -> None:
        counters = self._lanes.launch.counters
        if counters is None:
            return
        counters.n_threads += self._lanes.n_ctas * self._lanes.n_threads
        counters.warp_instructions += self._warp_count
        counters.thread_instructions += sum(self._thread_counts)
        for step, count in zip(self._steps, self._thread_counts, strict=True):
            counters.opcodes[step.instruction.opcode] += count
