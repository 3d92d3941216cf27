#!/usr/bin/env bash
# Compiles kernels/src/cuda/cu/*.cu and prints what each kernel takes of a multiprocessor, as a table.
#
#   scripts/cuda/resources.sh [ARCHITECTURE...]     such as 80 90 120; without any, 90
#
# nvcc is $NVCC, else that of CUDA_HOME, else the one on the PATH. PTX for compute_80 is made too, as in
# the build. A warning is an error. Shared memory is what a kernel declares itself; what its launch adds
# is not known here.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
nvcc=${NVCC:-${CUDA_HOME:+$CUDA_HOME/bin/nvcc}}
nvcc=${nvcc:-nvcc}
command -v "$nvcc" >/dev/null || { echo "no nvcc: run scripts/cuda/toolkit.sh FOLDER compiler" >&2; exit 1; }
[ $# -gt 0 ] || set -- 90

# The options of kernels/build.rs.
options=(-fatbin -O3 --std=c++17 -Werror all-warnings -Xptxas -v -gencode arch=compute_80,code=compute_80)
for architecture; do
  options+=(-gencode "arch=compute_$architecture,code=sm_$architecture")
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root/kernels/src/cuda/cu"
compile() {
  local name=$1
  shift
  "$@" -o "$work/$name.fatbin" "$name.cu" > "$work/$name.log" 2>&1 || { cat "$work/$name.log" >&2; return 1; }
}
export -f compile
export work
for source in *.cu; do echo "${source%.cu}"; done |
  xargs -P "$(nproc)" -I NAME bash -c 'compile "$@"' - NAME "$nvcc" "${options[@]}"

echo '| source | kernel | sm | registers | spilled (bytes) | shared (bytes) |'
echo '| --- | --- | ---: | ---: | ---: | ---: |'
for log in "$work"/*.log; do
  awk -v source="$(basename "$log" .log).cu" '
    # The text before the number that stands before a word, if the line has one.
    function before(word,   at) {
      at = match($0, "[0-9]+ (bytes )?" word)
      return at ? substr($0, at) + 0 : 0
    }
    /Compiling entry function/ { split($0, quoted, "\047"); kernel = quoted[2]; sm = quoted[4]; sub("sm_", "", sm) }
    /spill stores/ { spilled = before("spill stores") + before("spill loads") }
    /Used [0-9]+ registers/ {
      printf "| %s | %s | %s | %d | %d | %d |\n", source, kernel, sm, before("registers"), spilled, before("smem")
    }' "$log"
done
echo
total=$(cat "$work"/*.fatbin | wc -c)
echo "$(ls "$work"/*.fatbin | wc -l) sources, $((total / 1024)) KiB for PTX and sm_$(IFS=,; echo "$*")."
