#!/usr/bin/env bash
# Nsight Compute counters of the kernels of one op or one training step: what bounds them, and how much they move.
#
#   profiling/ncu.sh [posterior|em_gradient|map|sample|step] [--size 15] [--batch 65536]
#   profiling/ncu.sh sudoku/fused --size 9 --batch 4096               a method of a benchmark: see trace.py
#   OUT=profiling/results/ncu  PYTHON=python3  KERNEL='regex:.*'      results, Python, which kernels
#
# Writes counters.ncu-rep (open it with ncu-ui), raw.csv, details.csv, tables.md and tables.json.
# Exit code 2: no GPU, or no ncu; one sentence says which.
#
# Sections
#   SpeedOfLight             distance from the peaks of memory and SMs: the measured counterpart of roofline.py
#   MemoryWorkloadAnalysis   traffic and hit rates of DRAM, L2, L1; with _Tables, sectors per request (coalescing)
#   ComputeWorkloadAnalysis  which pipe is busiest (FMA, ALU, special functions)
#   InstructionStats         executed instructions by opcode
#   WarpStateStats           why warps wait: memory, barriers, or nothing to issue
#   LaunchStats, Occupancy   registers, shared memory, blocks per SM
# Metrics beyond the sections: the counters that roofline.py models. l1tex sectors are its requested sectors,
#   lts sectors from the L1 (srcunit_tex) its unique sectors, smsp__inst_executed its warp instructions. The DRAM bytes
#   come with MemoryWorkloadAnalysis_Tables, whose names for them differ between generations.
# Flags
#   --profile-from-start off only the region that trace.py opens
#   --replay-mode kernel     a kernel is repeated until all counters are read; its memory is restored in between
#   --cache-control all      caches are flushed before each replay, so that DRAM traffic is that of cold data
#   --clock-control none     clocks stay as they are: fixing them needs privileges, and others may use the GPU
#   --print-units base       bytes and seconds without prefixes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
python="${PYTHON:-python3}"
out="${OUT:-profiling/results/ncu}"
if [ "$#" -eq 0 ]; then set -- posterior --batch 65536; fi

"$python" -m profiling.trace check
if ! command -v ncu >/dev/null; then
    echo "ncu.sh: ncu (Nsight Compute) is not on the PATH: get it from https://developer.nvidia.com/nsight-compute or with the CUDA toolkit" >&2
    exit 2
fi

sections=()
for name in SpeedOfLight MemoryWorkloadAnalysis MemoryWorkloadAnalysis_Tables ComputeWorkloadAnalysis \
    InstructionStats WarpStateStats LaunchStats Occupancy; do
    sections+=(--section "$name")
done
metrics=gpu__time_duration.sum,smsp__inst_executed.sum
metrics+=,l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum,l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum
metrics+=,lts__t_sectors_srcunit_tex_op_read.sum,lts__t_sectors_srcunit_tex_op_write.sum

mkdir -p "$out"
log="$out/ncu.log"
status=0
ncu --target-processes all --profile-from-start off --replay-mode kernel --cache-control all --clock-control none \
    --kernel-name "${KERNEL:-regex:.*}" "${sections[@]}" --metrics "$metrics" \
    --force-overwrite --export "$out/counters" "$python" -m profiling.trace run "$@" --repeat 2 2>&1 |
    tee "$log" || status=$?
if grep -q ERR_NVGPUCTRPERM "$log"; then
    echo "ncu.sh: this user may not read the GPU's performance counters: an administrator can allow it, see https://developer.nvidia.com/ERR_NVGPUCTRPERM" >&2
    exit 2
fi
if [ "$status" -ne 0 ]; then exit "$status"; fi
ncu --import "$out/counters.ncu-rep" --csv --page raw --print-units base >"$out/raw.csv"
ncu --import "$out/counters.ncu-rep" --csv --page details >"$out/details.csv"
"$python" -m profiling.trace table "$out/raw.csv" "$out/details.csv" --json "$out/tables.json" | tee "$out/tables.md"
