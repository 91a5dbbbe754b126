"""The entry point of ``python -m emnesy_gpu`` and of the console script ``emnesy``."""

import sys


def main() -> int:
    """Run the command line and return its exit status."""
    if sys.argv[1:2] == ["doctor"]:
        # ``doctor`` reports missing packages, so it must work without those of the command line.
        from emnesy_gpu import doctor

        return doctor.main(sys.argv[2:])
    try:
        from emnesy_gpu.cli import main as run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print('emnesy: error: click is not installed: pip install "emnesy_gpu[train]"', file=sys.stderr)
        return 1
    return run()


if __name__ == "__main__":
    sys.exit(main())
