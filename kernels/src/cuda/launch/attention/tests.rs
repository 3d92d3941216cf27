//! Plans, and what the kernels compute from them in the emulator.

use candle_core::Device;
use half::bf16;
use proxima_emulator::{Arg, Block, Buffer, Element, Span, emulate, read, write};

use super::*;
use crate::spec::{OffsetBuckets, PositionBias, ScoreBias, Sequences, TokenBias};

#[test]
fn segments_become_blocks_and_spans() {
    let segment = |rows, start, ancestors| Segment { rows, start, ancestors };
    let segments = [
        segment(0..5, 0, vec![]),
        segment(5..7, 5, vec![Ancestor::Batch(0..5)]),
        segment(7..16, 8, vec![Ancestor::Cached(0), Ancestor::Batch(0..5)]),
    ];
    let cached = [Keys { address: 1 << 33 | 24, stride: 2, rows: 3 }];
    let plan = AttentionPlan::new(&segments, 4, &cached);
    assert_eq!(
        plan.spans,
        [[0, 0, 0, 5], [0, 0, 0, 5], [5, 0, 0, 2], [24, 2, 2, 3], [0, 0, 0, 5], [7, 0, 0, 9]]
    );
    assert_eq!(
        plan.blocks,
        [
            [15, 1, 16, 3, 3, 17],
            [11, 4, 12, 3, 3, 17],
            [7, 4, 8, 3, 3, 17],
            [5, 2, 5, 1, 2, 7],
            [4, 1, 4, 0, 1, 5],
            [0, 4, 0, 0, 1, 5],
        ]
    );
}

#[test]
fn heads_run_in_the_next_size() {
    let name =
        |size, dtype| AttentionKernel::of(size, dtype, BiasKind::None).map(|kernel| kernel.name);
    assert_eq!(name(64, DType::BF16).expect("a kernel"), "attention_bf16_64");
    assert_eq!(name(72, DType::F16).expect("a kernel"), "attention_f16_80");
    assert_eq!(name(20, DType::F32).expect("a kernel"), "attention_f32");
    assert!(name(20, DType::BF16).is_err() && name(136, DType::BF16).is_err());
    let bytes = |size, dtype, bias| {
        AttentionKernel::of(size, dtype, bias).map(|kernel| kernel.shared_bytes).expect("a kernel")
    };
    assert_eq!(bytes(64, DType::BF16, BiasKind::None), 57_344);
    assert_eq!(bytes(128, DType::BF16, BiasKind::Table), 70_656);
    assert_eq!(bytes(128, DType::F32, BiasKind::None), 44_288);
}

fn random_values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn int(count: usize) -> Arg {
    Arg::Int(count as i32)
}

/// A plan as the kernels read it.
fn on_device_plan(plan: &AttentionPlan) -> (Buffer<Block>, Buffer<Span>) {
    let blocks = plan.blocks.iter().map(|block| {
        let [row, rows, position, first_span, spans, length] = block.map(|number| number as i32);
        Block { row, rows, position, first_span, spans, length }
    });
    let spans = plan.spans.iter().map(|span| Span {
        address: u64::from(span[0]) | u64::from(span[1]) << 32,
        stride: span[2] as i32,
        rows: span[3] as i32,
    });
    let (blocks, spans): (Vec<_>, Vec<_>) = (blocks.collect(), spans.collect());
    (Buffer::of(&blocks), Buffer::of(&spans))
}

/// Segments that share a prefix, one alone, and one after a cached part, all as on the device.
fn check<T: Element>(heads: Heads, dtype: DType, rounded: fn(f32) -> T, most: f32)
where
    f32: From<T>,
{
    // Longer than any sequence needs.
    let reach = 101;
    let table = random_values(heads.heads * (2 * reach + 1), 3);
    let bias = PositionBias {
        table: Tensor::from_vec(table.clone(), (heads.heads, 2 * reach + 1), &Device::Cpu)
            .expect("a table"),
        reach,
    };
    for bias in [None, Some(ScoreBias::Table(&bias))] {
        check_with(heads, (dtype, rounded, most), bias, &Buffer::of(&table));
    }
}

fn check_with<T: Element>(
    heads: Heads,
    (dtype, rounded, most): (DType, fn(f32) -> T, f32),
    bias: Option<ScoreBias<'_>>,
    table: &Buffer<f32>,
) where
    f32: From<T>,
{
    let segment = |rows, start, ancestors| Segment { rows, start, ancestors };
    let segments = [
        segment(0..70, 0, vec![]),
        segment(70..75, 70, vec![Ancestor::Batch(0..70)]),
        segment(75..76, 0, vec![]),
        segment(76..85, 33, vec![Ancestor::Cached(0)]),
    ];
    let (rows, cached_rows, stride) = (85, 33, 2 * heads.kv_heads * heads.size);
    let round = |values: Vec<f32>| -> Vec<T> { values.into_iter().map(rounded).collect() };
    let (qkv, cached) = (
        round(random_values(rows * heads.row(), 1)),
        round(random_values(cached_rows * stride, 2)),
    );
    let (on_device, kept_there) = (Buffer::of(&qkv), Buffer::of(&cached));
    let before = [Keys { address: kept_there.address_of(0), stride, rows: cached_rows }];
    let kernel = AttentionKernel::of(heads.size, dtype, BiasKind::of(bias)).expect("a kernel");
    let plan = AttentionPlan::new(&segments, kernel.rows, &before);
    let (blocks, spans) = on_device_plan(&plan);
    let mut out = Buffer::of(&vec![rounded(f32::NAN); rows * heads.heads * heads.size]);
    let mut args = vec![read(&on_device), read(&blocks), read(&spans)];
    args.extend([heads.row(), heads.heads, heads.kv_heads, heads.size, 1, 0].map(int));
    if let Some(ScoreBias::Table(bias)) = bias {
        args.extend([read(table), int(bias.reach)]);
    }
    args.push(write(&mut out));
    let launch = proxima_emulator::Launch {
        grid: [(plan.blocks.len() * heads.heads) as u32, 1, 1],
        block: BLOCK as u32,
        shared: kernel.shared_bytes,
        seed: 1,
    };
    // SAFETY: blocks and spans refer to rows in these buffers, which are all alive.
    unsafe { emulate(&kernel.name, launch, &args) }.expect("computed");
    let matrix = |values: &[T], width: usize| {
        let wide: Vec<f32> = values.iter().map(|value| f32::from(*value)).collect();
        Tensor::from_vec(wide, (values.len() / width, width), &candle_core::Device::Cpu)
    };
    let (qkv, cached) =
        (matrix(&qkv, heads.row()).expect("rows"), matrix(&cached, stride).expect("rows"));
    let scoring = Scoring { mask: Mask::Causal, bias };
    let wanted = crate::reference::attention::attention(
        &qkv,
        heads,
        Sequences { segments: &segments, cached: &[&cached] },
        scoring,
    )
    .expect("plain");
    let wanted: Vec<f32> = wanted.flatten_all().and_then(|it| it.to_vec1()).expect("values");
    for (found, wanted) in out.elements().iter().zip(&wanted) {
        let found = f32::from(*found);
        assert!((found - wanted).abs() <= most, "{found}, not {wanted}");
    }
}

#[test]
fn plans_are_what_kernels_take() {
    let heads = Heads { heads: 4, kv_heads: 2, size: 64 };
    check::<bf16>(heads, DType::BF16, bf16::from_f32, 2e-2);
    check::<f32>(heads, DType::F32, |number| number, 1e-5);
    check::<bf16>(Heads { size: 72, ..heads }, DType::BF16, bf16::from_f32, 2e-2);
}

#[test]
fn biases_by_token_are_those_of_the_reference() {
    let heads = Heads { heads: 3, kv_heads: 3, size: 24 };
    let (rows, count, reach) = (75, 12, 69);
    let of_offsets = (0..=2 * reach as u32).map(|offset| offset * 12 / (2 * reach as u32 + 1));
    let buckets = OffsetBuckets::new(of_offsets.collect(), count);
    let segments = crate::spec::segments_of(&[0, 70, 75]);
    let qkv = random_values(rows * heads.row(), 1);
    let (queries, keys) = (random_values(3 * rows * count, 2), random_values(3 * rows * count, 3));
    let kernel = AttentionKernel::of(heads.size, DType::F32, BiasKind::Tokens).expect("a kernel");
    let plan = AttentionPlan::new(&segments, kernel.rows, &[]);
    let (blocks, spans) = on_device_plan(&plan);
    let (on_device, offsets) = (Buffer::of(&qkv), Buffer::of(buckets.of_offsets()));
    let terms_there = Buffer::of(&[&queries[..], &keys].concat());
    let mut out = Buffer::of(&vec![f32::NAN; rows * heads.heads * heads.size]);
    let mut args = vec![read(&on_device), read(&blocks), read(&spans)];
    args.extend([heads.row(), heads.heads, heads.kv_heads, heads.size, 0, 0].map(int));
    args.extend([read(&terms_there), read(&offsets)]);
    args.extend([count, reach, rows].map(int));
    args.push(write(&mut out));
    let launch = proxima_emulator::Launch {
        grid: [(plan.blocks.len() * heads.heads) as u32, 1, 1],
        block: BLOCK as u32,
        shared: kernel.shared_bytes,
        seed: 1,
    };
    // SAFETY: blocks and spans refer to rows in these buffers, which are all alive.
    unsafe { emulate(&kernel.name, launch, &args) }.expect("computed");
    let terms = |terms: &[f32]| -> Vec<Tensor> {
        let heads = terms.chunks_exact(rows * count);
        let tensors = heads.map(|head| Tensor::from_slice(head, (rows, count), &Device::Cpu));
        tensors.collect::<Result<_>>().expect("terms")
    };
    let bias = TokenBias { queries: terms(&queries), keys: terms(&keys), buckets: &buckets };
    let scoring = Scoring { mask: Mask::Full, bias: Some(ScoreBias::Tokens(&bias)) };
    let qkv = Tensor::from_slice(&qkv, (rows, heads.row()), &Device::Cpu).expect("rows");
    let sequences = Sequences::from(&segments[..]);
    let wanted = crate::reference::attention::attention(&qkv, heads, sequences, scoring);
    let wanted: Vec<f32> =
        wanted.and_then(|wanted| wanted.flatten_all()?.to_vec1()).expect("attended");
    for (found, wanted) in out.elements().iter().zip(&wanted) {
        assert!((found - wanted).abs() <= 1e-5, "{found}, not {wanted}");
    }
}
