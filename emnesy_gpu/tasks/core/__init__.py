"""The parts of training runs that depend on no task."""
