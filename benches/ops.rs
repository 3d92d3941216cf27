//! Time of each operation between GEMMs, on 512 rows of all-MiniLM-L6-v2 and of
//! Qwen3-Embedding-0.6B: `cargo bench -p proxima-kernels --bench ops`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proxima_kernels::cpu::Isa;
use proxima_kernels::cpu::attention::{Attention, Layout, attention_packed};
use proxima_kernels::cpu::gemm::micro_kernel::Arithmetic;
use proxima_kernels::cpu::gemm::pack_lhs::PackedLhs;
use proxima_kernels::cpu::rowwise::{Norm, RotaryHeads, norm_packed, rotary};
use proxima_kernels::spec::{Heads, Mask, segments_of};

const ROWS: usize = 512;

/// The arithmetics of attention and of the GEMM after it.
fn arithmetics(isa: Isa) -> Vec<Arithmetic> {
    let rounded = isa.multiplies_bf16().then_some(Arithmetic::Bf16);
    std::iter::once(Arithmetic::F32).chain(rounded).collect()
}

fn random_values(count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at % 1013) as f32 / 506.0 - 1.0) * 2.0).collect()
}

fn attentions(criterion: &mut Criterion) {
    let isa = Isa::current();
    let models = [
        ("MiniLM", Heads { heads: 12, kv_heads: 12, size: 32 }, Mask::Full),
        ("Qwen3-0.6B", Heads { heads: 16, kv_heads: 8, size: 128 }, Mask::Causal),
    ];
    let mut group = criterion.benchmark_group("attention");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (model, heads, mask) in models {
        let qkv = random_values(ROWS * heads.row());
        for length in [128, ROWS] {
            let offsets: Vec<usize> = (0..=ROWS).step_by(length).collect();
            let segments = segments_of(&offsets);
            for arithmetic in arithmetics(isa) {
                let layout = Layout { segments: &segments, cached: &[] };
                let what = Attention { qkv: &qkv, heads, layout, mask, bias: None, arithmetic };
                let packing = isa.packing(arithmetic);
                group.bench_function(format!("{model} of {length} in {arithmetic:?}"), |bench| {
                    bench.iter(|| attention_packed(isa, what, packing));
                });
            }
        }
    }
}

fn rows(criterion: &mut Criterion) {
    let isa = Isa::current();
    let mut group = criterion.benchmark_group("rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (model, width) in [("MiniLM", 384), ("Qwen3-0.6B", 1024)] {
        let (x, weight) = (random_values(ROWS * width), vec![1.0; width]);
        for arithmetic in arithmetics(isa).into_iter().chain([Arithmetic::Int8]) {
            let packing = isa.packing(arithmetic);
            let rms = Norm::Rms { weight: &weight, eps: 1e-6 };
            group.bench_function(format!("rms_norm {model} for {arithmetic:?}"), |bench| {
                bench.iter(|| norm_packed(isa, rms, &x, None, packing));
            });
            let layer = Norm::Layer { weight: &weight, bias: Some(&weight), eps: 1e-6 };
            group.bench_function(format!("layer_norm {model} for {arithmetic:?}"), |bench| {
                bench.iter(|| norm_packed(isa, layer, &x, None, packing));
            });
            group.bench_function(format!("packing {model} for {arithmetic:?}"), |bench| {
                bench.iter(|| PackedLhs::of(isa, &x, width, packing));
            });
        }
    }
    let (size, weight) = (128, vec![1.0; 128]);
    let mut qkv = random_values(ROWS * 32 * size);
    let positions: Vec<u32> = (0..ROWS as u32).collect();
    let tables = random_values(ROWS * size / 2);
    let heads = RotaryHeads { counts: [16, 8], norms: Some(([&weight, &weight], 1e-6)), size };
    group.bench_function("rotary with norms Qwen3-0.6B", |bench| {
        bench.iter(|| rotary(isa, &mut qkv, heads, &positions, &tables, &tables));
    });
}

criterion_group!(all, attentions, rows);
criterion_main!(all);
