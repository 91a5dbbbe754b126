"""The loop of training runs: signals, reports, epochs and engines. It depends on no task."""
