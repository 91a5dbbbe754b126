#!/usr/bin/env bash
# Everything that a GPU can tell about this package, in one command:
#
#   profiling/gpu_report.sh
#   PYTHON=python3 profiling/gpu_report.sh          which Python runs (default: that of .venv, else python3)
#   RESULTS=folder profiling/gpu_report.sh          where the folder of the results goes (default: profiling/results)
#
# Environment, tests marked cuda (the long ones too), benchmarks on the GPU, and every script of this folder. Results
# lie in $RESULTS/<gpu>-<date>/: report.md and report.json, and the records and logs of each step beside them.
# Each step ends as ok, skipped (with the reason) or failed; a step that fails does not stop the others.
# Exit code 1 if a step failed. Without a GPU it runs to the end too, and says what was skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
export PYTHON="${PYTHON:-python3}"
out="${RESULTS:-profiling/results}/$("$PYTHON" -m profiling.report folder)"
rm -rf "$out"
mkdir -p "$out"
echo "results: $out"

failed=0
junit=()

# step NAME COMMAND...: run it, keep its output in NAME.log, record how it ended.
step() {
    local name="$1" code=0 start=$SECONDS line
    shift
    "$@" >"$out/$name.log" 2>&1 || code=$?
    line="$("$PYTHON" -m profiling.report add "$out" "$name" "$code" "$((SECONDS - start))" "${junit[@]}")"
    echo "$line"
    case "$line" in *failed*) failed=1 ;; esac
}

environment() {
    "$PYTHON" -m emnesy_gpu.doctor --json | tee "$out/environment.json"
}

step environment environment
junit=(--junit "$out/tests.xml")
step tests "$PYTHON" -m pytest -m cuda --slow -q -rs --junit-xml "$out/tests.xml"
junit=(--junit "$out/benchmarks.xml")
step benchmarks "$PYTHON" -m pytest tests/test_bench_*.py --benchmark-only -m cuda -q -rs \
    --benchmark-json "$out/benchmarks.json" --junit-xml "$out/benchmarks.xml"
junit=()
step roofline "$PYTHON" -m profiling.roofline \
    --json "$out/roofline.json" --markdown "$out/roofline.md" --plot "$out/roofline.png"
step roofline-kernels "$PYTHON" -m tests.kernel_roofline \
    --json "$out/roofline-kernels.json" --markdown "$out/roofline-kernels.md"
step memory "$PYTHON" -m profiling.memory --json "$out/memory.json" --markdown "$out/memory.md"
OUT="$out/nsys-op" step nsys-op profiling/nsys.sh posterior --digits 15 --batch 1024
OUT="$out/nsys-step" step nsys-step profiling/nsys.sh step --digits 15 --batch 64
for digits in 4 15 100; do
    OUT="$out/ncu-$digits" step "ncu-$digits" profiling/ncu.sh posterior --digits "$digits" --batch 65536
done

"$PYTHON" -m profiling.report write "$out"
echo "report: $out/report.md"
exit "$failed"
