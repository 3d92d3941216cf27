#!/usr/bin/env bash
# Checks on Linux that the kernels are type-correct with the feature `metal`. Nothing is linked or run:
# that needs a Mac.
#
#   scripts/metal/check.sh FOLDER     FOLDER is for what is built, and may be kept for the next time
#
# Two things are in the way: objc2-metal asks to be linked with a framework, which rustc does not hear of
# elsewhere (a copy of it goes without), and objc2 must be told of an Objective-C runtime.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 64; }
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)

mkdir -p "$folder/src"
echo '//! Nothing of its own.' > "$folder/src/lib.rs"
# The versions of the workspace, so that what is checked is what a Mac would build.
cp "$root/Cargo.lock" "$folder/Cargo.lock"
cat > "$folder/Cargo.toml" <<TOML
[package]
name = "metal-check"
edition = "2024"
[workspace]
[dependencies]
proxima-kernels = { path = "$root/kernels", features = ["metal"] }
objc2 = { version = "0.6", features = ["gnustep-2-1"] }
block2 = { version = "0.6", features = ["gnustep-2-1"] }

TOML
# And its profile, so that what it has checked of other crates serves here too.
sed -n '/^\[profile.release\]/,/^$/p' "$root/Cargo.toml" >> "$folder/Cargo.toml"

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$folder/target}
manifest=$(cargo metadata --format-version 1 --manifest-path "$folder/Cargo.toml" |
  grep -oE '"manifest_path":"[^"]*/objc2-metal-[^"]*"' | cut -d'"' -f4 | head -n 1)
[ -n "$manifest" ] || { echo "candle has other bindings to Metal now: this script must follow" >&2; exit 1; }
rm -rf "$folder/objc2-metal"
cp -r "$(dirname "$manifest")" "$folder/objc2-metal"
sed -i 's/^#\[link(name = "Metal", kind = "framework")\]$//' "$folder/objc2-metal/src/generated/mod.rs"
printf '[patch.crates-io]\nobjc2-metal = { path = "objc2-metal" }\n' >> "$folder/Cargo.toml"
cargo check --release --manifest-path "$folder/Cargo.toml"
