#!/usr/bin/env bash
# Installs NVIDIA's compiler and libraries into a folder of your own, from PyPI: no root, no installer,
# no GPU.
#
#   scripts/cuda/toolkit.sh FOLDER            all that a build needs (about 1.3 GB)
#   scripts/cuda/toolkit.sh FOLDER compiler   nvcc and its headers, enough for kernels/src/cuda/cu
#
# Then FOLDER/cuda is what others call CUDA_HOME. Run again, it adds what is missing and keeps the rest.
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 64; }
folder=$1
parts=${2:-all}
python=${PYTHON:-python3}

# The last two are named with their versions because pip otherwise takes a pair that is newer than
# nvcc, and cicc then writes PTX that this ptxas does not know.
pins=('nvidia-cuda-crt==13.0.88' 'nvidia-nvvm==13.0.88')
case $parts in
  all) extras=nvcc,cudart,cccl,cublas,curand,nvrtc,profiler ;;
  compiler) extras=nvcc,cudart,cccl ;;
  *) echo "parts are all or compiler, not $parts" >&2; exit 64 ;;
esac

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ ! -e "$folder/.complete-$parts" ] && [ ! -e "$folder/.complete-all" ]; then
  [ -x "$folder/bin/pip" ] || "$python" -m venv "$folder"
  "$folder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check \
    "cuda-toolkit[$extras]==13.0.2" "${pins[@]}"
fi

tree=$(echo "$folder"/lib/python3*/site-packages/nvidia/cu13)
[ -x "$tree/bin/nvcc" ] || { echo "no nvcc in $tree" >&2; exit 1; }
ln -sfn "$tree" "$folder/cuda"
# Wheels have no development links, and some build scripts look into lib64.
ln -sfn lib "$tree/lib64"
for versioned in "$tree"/lib/lib*.so.*; do
  plain=${versioned%%.so.*}.so
  [ -e "$plain" ] || ln -s "$(basename "$versioned")" "$plain"
done
"$(dirname "$0")/stub_driver.sh" "$tree" "$tree/lib/stubs"
touch "$folder/.complete-$parts"
echo "CUDA_HOME=$folder/cuda"
