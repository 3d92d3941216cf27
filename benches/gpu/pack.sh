#!/usr/bin/env bash
# Packs what benches/gpu/run.py needs on a machine with a GPU and no network: the program with the feature
# `cuda`, the test executables, golden files and tokenizers, and the scripts themselves.
#
#   benches/gpu/pack.sh FOLDER                       builds (make build-cuda), then packs
#   benches/gpu/pack.sh FOLDER PROGRAM [TEST...]     packs programs that are there; a TEST is [NAME=]FILE
#
# FOLDER gets run.py, its modules and pack.tar.xz, nothing else is needed:
#
#   python3 FOLDER/run.py --out RESULTS              on the machine with the GPU
#
# PACK_MIB (48) is how large the archive may be, PROXIMA_CACHE where tokenizers are (`make assets`), PACK_ROOT
# where the tests were built, if not here: they look for golden files at that path.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 64; }
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
cache=${PROXIMA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/proxima}
limit_mib=${PACK_MIB:-48}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# -gt 0 ]; then
  program=$1
  shift
  tests=("$@")
else
  cd "$root"
  make build-cuda assets
  # As the program is built, so that candle's kernels are not compiled anew.
  eval "export $(make -s cuda-environment)"
  built() {
    cargo "$@" --release --features cuda --config kernels/gpu.toml --message-format json-render-diagnostics | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["target"]["name"] + "=" + message["executable"])'
  }
  program=$(built build --package proxima --bin proxima | sed -n 's/^proxima=//p')
  built test --no-run --package proxima-kernels --test cuda --test cuda_ops > "$work/tests"
  built test --no-run --package proxima-models --test golden --test scores --test vision >> "$work/tests"
  mapfile -t tests < "$work/tests"
  root_of_tests=$root
fi

mkdir -p "$work/pack/bin" "$work/pack/tests" "$work/pack/cache/tokenizers" "$work/pack/cache/models/all-MiniLM-L6-v2"
strip -o "$work/pack/bin/proxima" "$program"
for entry in "${tests[@]}"; do
  file=${entry#*=}
  name=$(basename "${entry%%=*}")
  strip -o "$work/pack/tests/$name" "$file"
done
cp -r "$root/tests/golden" "$work/pack/golden"
cp -r "$cache/tokenizers/qwen3" "$work/pack/cache/tokenizers/qwen3"
# The weights would not fit: what needs them is left out, and a network of the same sizes is measured.
find "$cache/models/all-MiniLM-L6-v2" -maxdepth 1 \( -name '*token*.json' -o -name vocab.txt \) \
  -exec cp {} "$work/pack/cache/models/all-MiniLM-L6-v2/" \;
commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
printf '{"root": "%s", "commit": "%s"}\n' "${PACK_ROOT:-${root_of_tests:-$root}}" "$commit" > "$work/pack/pack.json"

# The executables share most of their bytes, far apart: the dictionary must be larger than all of them.
tar -C "$work/pack" --owner 0 --group 0 --sort name -cf "$work/pack.tar" bin tests golden cache pack.json
xz --threads 1 --x86 --lzma2=preset=2,dict=512MiB --stdout "$work/pack.tar" > "$folder/pack.tar.xz"
cp "$root"/benches/gpu/*.py "$folder/"

needed=$(objdump -T "$program" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1 || true)
size=$(stat -c %s "$folder/pack.tar.xz")
echo "$folder/pack.tar.xz: $((size / 1048576)) MiB of $(($(stat -c %s "$work/pack.tar") / 1048576)), needs ${needed:-?}"
[ "$size" -le $((limit_mib * 1048576)) ] || { echo "more than $limit_mib MiB (PACK_MIB)" >&2; exit 1; }
