//! Speed of the matrix product in every arithmetic of this CPU, in GFLOP/s and GB/s of weights:
//! `cargo bench -p proxima-kernels`, with arguments for some arithmetics only (`Bf16 Int8`).
//!
//! Weights of many layers are used by turns, so that they come from memory as they do in a model.

use std::time::Instant;

use proxima_kernels::cpu::gemm::multiply;
use proxima_kernels::cpu::operand::Operand;
use proxima_kernels::cpu::product::Arithmetic;
use proxima_kernels::cpu::weights::Packed;
use proxima_kernels::cpu::{Epilogue, Isa};

/// Bytes of weights used by turns: more than any cache holds.
const WEIGHT_BYTES: usize = 256 * 1024 * 1024;
/// Runs of which the median is shown.
const RUNS: usize = 7;
const ROWS: [usize; 10] = [1, 2, 4, 8, 12, 16, 32, 128, 512, 2048];

fn arithmetics(isa: Isa) -> Vec<Arithmetic> {
    use Arithmetic::{Bf16, F32, F32Bf16, Int8, SplitBf16, SplitF32};
    let mut all = vec![F32, F32Bf16, Int8];
    all.extend(isa.multiplies_bf16().then_some(Bf16));
    if isa.multiplies_tiles() {
        all.extend([SplitF32, SplitBf16]);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    all.retain(|it| wanted.is_empty() || wanted.contains(&format!("{it:?}")));
    all
}

fn layers(arithmetic: Arithmetic, columns: usize, depth: usize) -> Vec<Packed> {
    let form = arithmetic.weights();
    let fill = |column: usize, row: &mut [f32]| {
        row.iter_mut().zip(0u16..).for_each(|(value, place)| {
            *value = f32::from(place % 13) - 6.0 + column as f32 * 1e-3;
        });
    };
    let count = WEIGHT_BYTES / (form.bytes() * columns * depth);
    (0..count).map(|_| Packed::new(form, columns, depth, fill)).collect()
}

fn main() {
    let isa = Isa::current();
    let threads = proxima_kernels::cpu::team::threads();
    println!("{} on {threads} threads", isa.name());
    println!("| arithmetic | columns x depth | rows | GFLOP/s | GB/s |");
    println!("| --- | --- | --- | --- | --- |");
    for arithmetic in arithmetics(isa) {
        for (columns, depth) in [(3072, 1024), (1536, 384), (1024, 3072)] {
            let weights = layers(arithmetic, columns, depth);
            for rows in ROWS {
                let x = vec![0.5; rows * depth];
                let x = Operand::of(isa, &x, depth, isa.packing(arithmetic));
                let mut out = vec![0.0; rows * columns];
                let epilogue = Epilogue::Plain { bias: None, activation: None, residual: None };
                let used = if rows < 100 { weights.len() } else { weights.len().min(8) };
                let mut times: Vec<f64> = (0..RUNS)
                    .map(|_| {
                        let started = Instant::now();
                        for weights in &weights[..used] {
                            multiply(isa, arithmetic, &x, weights, &epilogue, &mut out);
                        }
                        started.elapsed().as_secs_f64() / used as f64
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                let seconds = times[RUNS / 2];
                let flops = 2.0 * (rows * columns * depth) as f64 / seconds / 1e9;
                let bytes = (arithmetic.weights().bytes() * columns * depth) as f64;
                let gigabytes = bytes / seconds / 1e9;
                println!(
                    "| {arithmetic:?} | {columns} x {depth} | {rows} | {flops:.0} | {gigabytes:.1} |"
                );
            }
        }
    }
}
