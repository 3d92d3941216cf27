#!/bin/sh
# Prepares an image of Rust (Debian) to build Proxima for an architecture: installs compilers, and
# writes what cargo is to be told into a file. As root:
#
#     toolchain.sh amd64|arm64 FILE
set -eu
arch=$1 file=$2
case $arch in
    amd64) machine=x86_64 package=x86-64 ;;
    arm64) machine=aarch64 package=aarch64 ;;
    *) echo "toolchain.sh: it is not known how to build for $arch"; exit 1 ;;
esac
target=$machine-unknown-linux-gnu triplet=$machine-linux-gnu
# A C++ compiler builds the regular expressions of the tokenizers, nasm the fast decoder of JPEG.
set -- g++ make nasm
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    set -- "$@" "g++-$package-linux-gnu"
    rustup target add "$target"
fi
apt-get update
apt-get install -y --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/*
name=$(echo "$target" | tr a-z- A-Z_)
under=$(echo "$target" | tr - _)
{
    echo "export CARGO_BUILD_TARGET=$target"
    # Neither symbols nor lines: the image is for serving.
    echo 'export CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols'
    # Programs that run while building are for this machine: only the target's are named.
    echo "export CARGO_TARGET_${name}_LINKER=$triplet-gcc"
    echo "export CC_$under=$triplet-gcc CXX_$under=$triplet-g++ AR_$under=$triplet-ar"
} > "$file"
