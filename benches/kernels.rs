//! Speed of the matrix product, in GFLOP/s and GB/s of weights: `cargo bench -p proxima-kernels`.
//!
//! Weights of many layers are used by turns, so that they come from memory as they do in a model.

use std::time::Instant;

use half::bf16;
use proxima_kernels::cpu::gemm::{Packed, multiply};
use proxima_kernels::cpu::{Epilogue, Isa};

/// Bytes of weights used by turns: more than any cache holds.
const WEIGHT_BYTES: usize = 256 * 1024 * 1024;
/// Runs of which the median is shown.
const RUNS: usize = 7;

fn main() {
    let isa = Isa::current();
    let threads = rayon::current_num_threads();
    println!("{} on {threads} threads, bfloat16 weights, float32 sums", isa.name());
    println!("| rows | columns | depth | GFLOP/s | GB/s |\n| --- | --- | --- | --- | --- |");
    for (columns, depth) in [(3072, 1024), (1536, 384), (1024, 3072)] {
        let layers = WEIGHT_BYTES / (2 * columns * depth);
        let weights: Vec<Packed<bf16>> = (0..layers)
            .map(|_| {
                Packed::new(columns, depth, |column, row| {
                    row.iter_mut().zip(0u16..).for_each(|(value, place)| {
                        *value = bf16::from_f32(f32::from(place % 13) - 6.0 + column as f32 * 1e-3);
                    });
                })
            })
            .collect();
        for rows in [1, 2, 4, 8, 9, 12, 16, 24, 128, 512] {
            let x = vec![0.5; rows * depth];
            let mut out = vec![0.0; rows * columns];
            let epilogue = Epilogue::Plain { bias: None, activation: None, residual: None };
            let used = if rows < 100 { layers } else { layers.min(8) };
            let mut times: Vec<f64> = (0..RUNS)
                .map(|_| {
                    let started = Instant::now();
                    for weights in &weights[..used] {
                        multiply(isa, &x, weights, &epilogue, &mut out);
                    }
                    started.elapsed().as_secs_f64() / used as f64
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let seconds = times[RUNS / 2];
            let flops = 2.0 * (rows * columns * depth) as f64 / seconds / 1e9;
            let bytes = (2 * columns * depth) as f64 / seconds / 1e9;
            println!("| {rows} | {columns} | {depth} | {flops:.0} | {bytes:.1} |");
        }
    }
}
