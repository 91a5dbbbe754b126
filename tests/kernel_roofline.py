"""Models the roofline of the launches in tests/kernel_registry that are not slow, as profiling/roofline.py describes.

    python -m tests.kernel_roofline all_different enumeration --markdown roofline.md

It models those of the stems that are named, or of all stems.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiling import peaks, roofline
from tests.kernel_registry import ENTRIES, Entry


def entries_of(stems: Sequence[str]) -> list[Entry]:
    entries = [entry for entry in ENTRIES if entry.stem in (stems or {entry.stem}) and not entry.slow]
    if not entries:
        raise SystemExit(f"no launches of {stems}; stems: {sorted({entry.stem for entry in ENTRIES})}")
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    parser = roofline.argument_parser("kernel_roofline", __doc__.partition("\n")[0])
    parser.add_argument("stems", nargs="*", metavar="STEM", help="default: all")
    options = parser.parse_args(arguments)
    gpus = [peaks.GPUS[name] for name in options.gpu]
    points = []
    for entry in entries_of(options.stems):
        counts = {arch: roofline.simulate_launch(entry, arch) for arch in {gpu.arch for gpu in gpus}}
        points += [(counts[gpu.arch], gpu) for gpu in gpus]
    roofline.publish(points, options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
