//! With the feature `cuda`, compiles each `src/cuda/cu/*.cu` into a fat binary for all generations
//! of NVIDIA GPUs, which the crate embeds.
//!
//! Must not know: what the kernels compute.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "src/cuda/cu";

/// Machine code is embedded for these; later ones compile the PTX of the oldest on first use.
const ARCHITECTURES: [&str; 6] = ["80", "86", "89", "90", "100", "120"];

/// Environment variables that are read; `nvcc` is also searched for on the PATH.
const VARIABLES: [&str; 4] = ["NVCC", "CUDA_HOME", "NVCC_MODE", "PROXIMA_CUDA_ARCHS"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo:rerun-if-changed={FOLDER}");
    for variable in VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if let Err(message) = build() {
        // Cargo shows the standard error of a failed build script.
        eprintln!("\n{message}\n");
        std::process::exit(1);
    }
}

/// Compiles what has changed and lists all images for `include!`.
fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let sources = files(&["cu"])?;
    let compiler = Compiler::find()?;
    for source in &sources {
        compiler.compile(source, &image(&out, source))?;
    }
    let mut list = String::from("[\n");
    for source in &sources {
        let path = image(&out, source);
        writeln!(list, "    ({:?}, include_bytes!({path:?})),", stem(source)).expect("memory");
    }
    list.push_str("]\n");
    write(&out.join("cuda_images.rs"), list.as_bytes())
}

/// The files of the folder with one of these extensions, sorted by name.
fn files(extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(FOLDER).map_err(|error| format!("{FOLDER}: {error}"))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    };
    let mut found: Vec<PathBuf> = paths.filter(wanted).collect();
    found.sort();
    Ok(found)
}

fn stem(source: &Path) -> String {
    source.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn image(out: &Path, source: &Path) -> PathBuf {
    out.join(format!("{}.fatbin", stem(source)))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, contents: &[u8]) -> Result<(), String> {
    fs::write(path, contents).map_err(|error| format!("{}: {error}", path.display()))
}

/// What compiles the kernels: nvcc, or nothing when types are only checked.
enum Compiler {
    Nvcc { path: OsString, version: String, options: Vec<String> },
    Stub,
}

impl Compiler {
    fn find() -> Result<Self, String> {
        if env::var_os("NVCC_MODE").is_some_and(|mode| mode == "stub") {
            println!("cargo:rustc-env=PROXIMA_CUDA_MAJOR=0");
            return Ok(Self::Stub);
        }
        let path = nvcc();
        let version = output(&path, "--version")?;
        let options = options(&architectures(&path)?);
        println!("cargo:rustc-env=PROXIMA_CUDA_MAJOR={}", major(&version)?);
        Ok(Self::Nvcc { path, version, options })
    }

    /// Writes a fat binary, unless the existing one was made from the same inputs.
    fn compile(&self, source: &Path, image: &Path) -> Result<(), String> {
        let Self::Nvcc { path, version, options } = self else { return write(image, &[]) };
        let mut made_of = DefaultHasher::new();
        (version, options, read(source)?).hash(&mut made_of);
        for header in files(&["cuh", "h"])? {
            (&header, read(&header)?).hash(&mut made_of);
        }
        let made_of = made_of.finish().to_string();
        let stamp = image.with_extension("stamp");
        if image.exists() && fs::read(&stamp).is_ok_and(|found| found == made_of.as_bytes()) {
            return Ok(());
        }
        let mut command = Command::new(path);
        command.args(options).arg("-o").arg(image).arg(source);
        let done = command.output().map_err(|error| missing(path, &error.to_string()))?;
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if !done.status.success() {
            return Err(format!("nvcc cannot compile {}:\n{said}", source.display()));
        }
        for line in said.lines().filter(|line| line.contains(": warning")) {
            println!("cargo:warning={line}");
        }
        write(&stamp, made_of.as_bytes())
    }
}

fn nvcc() -> OsString {
    if let Some(path) = env::var_os("NVCC").filter(|path| !path.is_empty()) {
        return path;
    }
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    home.filter(|path| path.exists()).map_or_else(|| "nvcc".into(), PathBuf::into_os_string)
}

fn missing(path: &OsString, why: &str) -> String {
    format!(
        "The feature `cuda` needs NVIDIA's compiler, but {} does not run ({why}). Install it with \
         `scripts/cuda/toolkit.sh FOLDER` and set CUDA_HOME=FOLDER/cuda, or set NVCC to an \
         installed one. To check types only, set NVCC_MODE=stub and NVCC=.../scripts/cuda/nvcc.",
        path.display()
    )
}

fn output(path: &OsString, argument: &str) -> Result<String, String> {
    let done = Command::new(path).arg(argument).output();
    let done = done.map_err(|error| missing(path, &error.to_string()))?;
    if !done.status.success() {
        return Err(missing(path, String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The major version in nvcc's "release 13.0": drivers must support this CUDA release.
fn major(version: &str) -> Result<u32, String> {
    let release = version.split("release ").nth(1).and_then(|rest| rest.split('.').next());
    let number = release.and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("nvcc does not print its release:\n{version}"))
}

/// The architectures to make machine code for: those named in the environment, or else those of
/// `ARCHITECTURES` that this nvcc supports.
fn architectures(path: &OsString) -> Result<Vec<String>, String> {
    if let Some(named) = env::var_os("PROXIMA_CUDA_ARCHS").filter(|named| !named.is_empty()) {
        let named = named.to_string_lossy().into_owned();
        let list = named.split([',', ' ', ';']).filter(|name| !name.is_empty());
        return Ok(list.map(|name| name.trim_start_matches("sm_").to_owned()).collect());
    }
    let known = output(path, "--list-gpu-code")?;
    let known: Vec<&str> =
        known.lines().map(|line| line.trim().trim_start_matches("sm_")).collect();
    let (use_these, left_out): (Vec<&str>, Vec<&str>) =
        ARCHITECTURES.iter().partition(|name| known.contains(name));
    if !left_out.is_empty() {
        println!(
            "cargo:warning=this nvcc cannot make machine code for {}: such GPUs compile the \
             kernels when they are first used",
            left_out.join(", ")
        );
    }
    Ok(use_these.into_iter().map(str::to_owned).collect())
}

/// Options for nvcc. No fast math: results are compared with the CPU's.
fn options(architectures: &[String]) -> Vec<String> {
    let jobs = env::var("NUM_JOBS").unwrap_or_else(|_| "1".to_owned());
    let mut options: Vec<String> =
        ["-fatbin", "-O3", "--std=c++17", "--threads"].map(str::to_owned).to_vec();
    options.push(jobs);
    let mut generate = |virtual_one: &str, code: &str| {
        options.push("-gencode".to_owned());
        options.push(format!("arch=compute_{virtual_one},code={code}"));
    };
    generate(ARCHITECTURES[0], &format!("compute_{}", ARCHITECTURES[0]));
    for name in architectures {
        generate(name, &format!("sm_{name}"));
    }
    options
}
