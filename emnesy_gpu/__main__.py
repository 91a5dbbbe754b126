"""``python -m emnesy_gpu``; the console script ``emnesy`` calls ``main`` too."""

import sys


def main() -> int:
    if sys.argv[1:2] == ["doctor"]:
        # The command that tells what is missing must not need the command line's own packages.
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
