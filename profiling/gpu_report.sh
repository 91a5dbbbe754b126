#!/usr/bin/env bash
# Everything that a GPU can tell about this package, in one command:
#
#   profiling/gpu_report.sh [--seconds 540] [--steps NAME ...] [--list]
#   PYTHON=python3 profiling/gpu_report.sh          which Python runs (default: that of .venv, else python3)
#   STEPS="doctor tests" RESULTS=folder JOBS=8      which steps, where results go, processes for the tests
#
# The same command again goes on where the time ended; gpu_report.py says how, and what each step is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
exec "${PYTHON:-python3}" -m profiling.gpu_report "$@"
