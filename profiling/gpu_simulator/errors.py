"""What the simulator raises. Every message names the source line and the PTX instruction."""


class SimulationError(RuntimeError):
    """Base of everything a simulated launch can raise."""


class UnsupportedPtx(SimulationError):
    """An opcode, suffix or operand outside the decoder's whitelist."""


class OutOfBounds(SimulationError):
    """An access outside every allocation, or outside the CTA's shared or the thread's local memory."""


class Misaligned(SimulationError):
    """An access whose address is not a multiple of its size."""


class UninitialisedRead(SimulationError):
    """A read of shared memory that no thread of the CTA has written."""


class DataRace(SimulationError):
    """Two unordered accesses to one location, at least one of them a non-atomic write."""


class BarrierDeadlock(SimulationError):
    """Threads wait at a barrier that the rest of their CTA never reaches, or reaches elsewhere."""


class DivergentCollective(SimulationError):
    """A warp-wide instruction executed by other lanes than its member mask names."""


class EndlessLoop(SimulationError):
    """A batch of CTAs executed more instructions than the step limit allows."""


class KernelTrap(SimulationError):
    """The kernel executed `trap`."""
