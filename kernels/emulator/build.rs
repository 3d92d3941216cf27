//! Compiles the CUDA kernels, and the emulated machine that runs them, with the system's C++
//! compiler.
//!
//! Must not know: any one kernel.

use std::path::Path;

fn main() {
    let (native, kernels) = (Path::new("native"), Path::new("../src/cuda/cu"));
    for folder in [native, kernels] {
        println!("cargo:rerun-if-changed={}", folder.display());
    }
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).debug(false);
    build.flag("-fno-exceptions").flag("-fno-rtti");
    build.flag("-Wall").flag("-Wextra").flag("-Wno-unknown-pragmas").flag("-Wno-unused-function");
    build.include(native).include(kernels);
    for file in ["context.cpp", "instructions.cpp", "machine.cpp", "kernels.cpp"] {
        build.file(native.join(file));
    }
    if let Err(error) = build.try_compile("proxima_emulator") {
        panic!(
            "the CUDA kernels are tested on the CPU, which needs a C++17 compiler (g++ or clang++, \
             or the one that CXX names) on a Unix system: {error}"
        );
    }
}
