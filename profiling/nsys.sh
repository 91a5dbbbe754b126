#!/usr/bin/env bash
# Nsight Systems timeline of one op or one training step: which kernels ran, how long, within which range.
#
#   profiling/nsys.sh [posterior|em_gradient|map|sample|step] [--size 15] [--batch 1024] [--repeat 20]
#   profiling/nsys.sh sudoku/fused --size 9 --batch 1024              a method of a benchmark: see trace.py
#   OUT=profiling/results/nsys  PYTHON=python3          where results go, which Python runs
#
# Writes timeline.nsys-rep (open it with nsys-ui), one CSV per report, tables.md and tables.json.
# Exit code 2: no GPU, or no nsys; one sentence says which.
#
# --trace=cuda,nvtx              kernels and our ranges; no OS or library tracing, which costs time and is not asked here
# --sample=none --cpuctxsw=none  no CPU sampling: it needs privileges and disturbs short launches
# --capture-range=cudaProfilerApi, --capture-range-end=stop
#                                record only the region that trace.py opens, so that compiling and warming up stay out
# cuda_gpu_kern_sum              time per kernel
# nvtx_sum                       time per range as the host saw it
# nvtx_gpu_proj_sum              time per range on the GPU: from the first to the last kernel launched within it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
python="${PYTHON:-python3}"
out="${OUT:-profiling/results/nsys}"
if [ "$#" -eq 0 ]; then set -- step; fi

"$python" -m profiling.trace check
if ! command -v nsys >/dev/null; then
    echo "nsys.sh: nsys (Nsight Systems) is not on the PATH: get it from https://developer.nvidia.com/nsight-systems or with the CUDA toolkit" >&2
    exit 2
fi

mkdir -p "$out"
nsys profile --trace=cuda,nvtx --sample=none --cpuctxsw=none \
    --capture-range=cudaProfilerApi --capture-range-end=stop \
    --force-overwrite=true --output="$out/timeline" \
    "$python" -m profiling.trace run "$@"
nsys stats --force-export=true --force-overwrite=true --format csv --output "$out/stats" \
    --report cuda_gpu_kern_sum --report nvtx_sum --report nvtx_gpu_proj_sum "$out/timeline.nsys-rep"
"$python" -m profiling.trace table "$out"/stats_*.csv --json "$out/tables.json" | tee "$out/tables.md"
