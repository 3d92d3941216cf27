//! GEMM speed in every arithmetic of this CPU, in GFLOP/s and GB/s of weights:
//! `cargo bench -p proxima-kernels`, with arguments for some arithmetics only (`Bf16 Int8`) or for
//! one shape (`1536x384`).
//!
//! Weights of many layers are used in turn, so that they come from memory as in a model. On a
//! shared machine, the matrix units have two speeds, which change within seconds. So the innermost
//! loop is timed alone before and after each sample: a sample counts as slow if this takes 1.5
//! times the best time seen, or longer. Medians are over fast samples only, if there are any, and
//! the table says how many there were.

use std::time::Instant;

use proxima_kernels::cpu::buffer::aligned::{AlignedBytes, cast_mut};
use proxima_kernels::cpu::gemm::micro_kernel::{
    Arithmetic, GemmOp, LINE, MicroKernel, PANEL_COLUMNS, Sums,
};
use proxima_kernels::cpu::gemm::multiply;
use proxima_kernels::cpu::gemm::pack_lhs::PackedLhs;
use proxima_kernels::cpu::gemm::pack_rhs::PackedRhs;
use proxima_kernels::cpu::isa::simd::Simd;
use proxima_kernels::cpu::{Epilogue, Isa, thread_pool};

/// Bytes of weights used in turn: more than any cache holds.
const WEIGHT_BYTES: usize = 256 * 1024 * 1024;
/// Samples per case.
const SAMPLES: usize = 15;
const ROWS: [usize; 8] = [1, 4, 16, 32, 128, 512, 2048, 8192];
const SHAPES: [(usize, usize); 5] =
    [(1536, 384), (384, 1536), (384, 384), (3072, 1024), (1024, 3072)];
/// For the probe: how often the innermost loop runs, and its bytes of weights.
const PROBE_RUNS: usize = 100;
const PROBE_BYTES: usize = 16 * 1024;
/// A probe that takes more than this many times the best marks a slow moment.
const SLOW: f64 = 1.5;

/// The innermost loop alone, on memory in the L1 cache.
struct Probe;

impl GemmOp for Probe {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, P: MicroKernel>(self, _: S, p: P) {
        let form = P::ARITHMETIC;
        let lines = PROBE_BYTES / (PANEL_COLUMNS * form.weights().bytes() * form.format().depth());
        let x = AlignedBytes::zeros(lines * form.format().parts() * P::ROWS * LINE);
        let weights = AlignedBytes::zeros(PROBE_BYTES);
        let mut sums = AlignedBytes::zeros(P::ROWS * PANEL_COLUMNS * size_of::<f32>());
        for _ in 0..PROBE_RUNS {
            let sums = Sums { values: cast_mut(&mut sums), row: PANEL_COLUMNS, first: true };
            p.tile(P::ROWS, &x, &weights, sums, false);
        }
    }
}

/// Seconds that the probe takes on all threads.
fn probe(isa: Isa, arithmetic: Arithmetic) -> f64 {
    let started = Instant::now();
    thread_pool::for_each(thread_pool::threads(), |_| isa.run_gemm(arithmetic, Probe));
    started.elapsed().as_secs_f64()
}

fn arithmetics(isa: Isa, wanted: &[String]) -> Vec<Arithmetic> {
    use Arithmetic::{Bf16, F32, F32Bf16, Int8, SplitBf16, SplitF32};
    let mut all = vec![F32, F32Bf16, Int8];
    all.extend(isa.multiplies_bf16().then_some(Bf16));
    if isa.multiplies_tiles() {
        all.extend([SplitF32, SplitBf16]);
    }
    let names: Vec<String> = all.iter().map(|arithmetic| format!("{arithmetic:?}")).collect();
    let named = names.iter().any(|name| wanted.contains(name));
    all.retain(|arithmetic| !named || wanted.contains(&format!("{arithmetic:?}")));
    all
}

fn layers(arithmetic: Arithmetic, columns: usize, depth: usize) -> Vec<PackedRhs> {
    let form = arithmetic.weights();
    let fill = |column: usize, row: &mut [f32]| {
        row.iter_mut().zip(0u16..).for_each(|(value, index)| {
            *value = f32::from(index % 13) - 6.0 + column as f32 * 1e-3;
        });
    };
    let count = WEIGHT_BYTES / (form.bytes() * columns * depth);
    (0..count).map(|_| PackedRhs::new(form, columns, depth, fill)).collect()
}

/// One timing of a GEMM, and the probes around it.
struct Sample {
    seconds: f64,
    probes: [f64; 2],
}

fn samples(isa: Isa, arithmetic: Arithmetic, rows: usize, weights: &[PackedRhs]) -> Vec<Sample> {
    let (depth, columns) = (weights[0].depth(), weights[0].columns());
    let x = PackedLhs::of(isa, &vec![0.5; rows * depth], depth, isa.packing(arithmetic));
    let mut out = AlignedBytes::zeros(rows * columns * size_of::<f32>());
    let out = cast_mut(&mut out);
    let epilogue = Epilogue::Plain { bias: None, activation: None, residual: None };
    let used = if rows < 100 { weights.len().min(64) } else { weights.len().min(4) };
    let sample = |_| {
        let before = probe(isa, arithmetic);
        let started = Instant::now();
        for weights in &weights[..used] {
            multiply(isa, arithmetic, &x, weights, &epilogue, out);
        }
        let seconds = started.elapsed().as_secs_f64() / used as f64;
        Sample { seconds, probes: [before, probe(isa, arithmetic)] }
    };
    (0..SAMPLES).map(sample).collect()
}

/// The median time of the fast samples, or of all if there are none, and the number of fast ones.
fn fast_median(samples: &[Sample], best: f64) -> (f64, usize) {
    let is_fast = |sample: &&Sample| sample.probes.iter().all(|probe| *probe < SLOW * best);
    let mut times: Vec<f64> = samples.iter().filter(is_fast).map(|sample| sample.seconds).collect();
    let fast = times.len();
    if fast == 0 {
        times = samples.iter().map(|sample| sample.seconds).collect();
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], fast)
}

fn main() {
    let isa = Isa::current();
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("{} on {} threads", isa.name(), thread_pool::threads());
    println!("| arithmetic | columns x depth | rows | GFLOP/s | GB/s | fast samples |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for arithmetic in arithmetics(isa, &wanted) {
        let mut best = (0..50).map(|_| probe(isa, arithmetic)).fold(f64::MAX, f64::min);
        for (columns, depth) in SHAPES {
            let shape = format!("{columns}x{depth}");
            if wanted.iter().any(|word| word.contains('x')) && !wanted.contains(&shape) {
                continue;
            }
            let weights = layers(arithmetic, columns, depth);
            for rows in ROWS {
                let samples = samples(isa, arithmetic, rows, &weights);
                best = samples.iter().flat_map(|sample| sample.probes).fold(best, f64::min);
                let (seconds, fast) = fast_median(&samples, best);
                let flops = 2.0 * (rows * columns * depth) as f64 / seconds / 1e9;
                let bytes = (arithmetic.weights().bytes() * columns * depth) as f64;
                let rate = bytes / seconds / 1e9;
                println!(
                    "| {arithmetic:?} | {columns} x {depth} | {rows} | {flops:.0} | {rate:.1} | {fast}/{SAMPLES} |"
                );
            }
        }
    }
}
