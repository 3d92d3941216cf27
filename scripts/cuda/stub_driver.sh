#!/usr/bin/env bash
# Makes a libcuda.so to link against where no NVIDIA driver is installed.
#
#   scripts/cuda/stub_driver.sh CUDA_HOME FOLDER
#
# It has every function that cuda.h names, each answering CUDA_ERROR_STUB_LIBRARY, and calls itself
# libcuda.so.1, so that programs linked against it take the real driver where they run.
set -euo pipefail

[ $# = 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 64; }
header=$1/include/cuda.h
folder=$2
[ -r "$header" ] || { echo "no $header" >&2; exit 1; }
mkdir -p "$folder"

{
  echo '/* Made by scripts/cuda/stub_driver.sh */'
  {
    # Declarations, and macros that lead from a name to that of its newest version.
    grep -oE '\bcu[A-Z][A-Za-z0-9_]*[[:space:]]*\(' "$header" | tr -d ' \t('
    sed -nE 's/^#[[:space:]]*define[[:space:]]+cu[A-Z]\w+[[:space:]]+(cu[A-Z]\w+).*/\1/p' "$header"
    grep -oE '__CUDA_API_PT(DS|SZ)\(cu\w+\)' "$header" | sed -E 's/.*\((\w+)\)/\1/'
  } | sort -u | sed 's/.*/int &(void) { return 34; }/'
} > "$folder/stub.c"
"${CC:-cc}" -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$folder/libcuda.so" "$folder/stub.c"
rm "$folder/stub.c"
