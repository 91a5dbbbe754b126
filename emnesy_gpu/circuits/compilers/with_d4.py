"""Clauses to decision-DNNF by d4. Reads a job as JSON from standard input, writes an .nnf file."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """The job: clauses, the number of variables, and the path of the file."""
    import py_d4

    job = json.load(sys.stdin)
    compiled = py_d4.Solver(job["clauses"], job["n_variables"]).compile()
    Path(job["path"]).write_text(compiled.getNNFString())


if __name__ == "__main__":
    main()
