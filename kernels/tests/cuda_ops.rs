//! Every operation on a CUDA device, against its plain form in float32 on the CPU. Without a
//! device, each test says so and returns.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::norm;
use proxima_kernels::ops::pool::pool;
use proxima_kernels::ops::rotary::{self, RotaryTables};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::reference;
use proxima_kernels::spec::{
    Activation, Ancestor, Corner, HeadNorms, Heads, Mask, Pooling, Precision, Segment, Sequences,
    segments_of,
};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{Device, Tensor, cuda};

const PRECISIONS: [(Precision, f32); 3] =
    [(Precision::Float32, 2e-5), (Precision::Bfloat16, 2e-2), (Precision::Float16, 3e-3)];

/// The device, if there is one.
fn device() -> Option<Device> {
    match cuda::device(0, None) {
        Ok(device) => Some(device),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// Pseudo-random values in -1..1 from a seed.
fn random_values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn matrix(rows: usize, width: usize, seed: u64) -> Tensor {
    Tensor::from_vec(random_values(rows * width, seed), (rows, width), &Device::Cpu)
        .expect("a matrix")
}

fn vector(width: usize, seed: u64) -> Tensor {
    Tensor::from_vec(random_values(width, seed), width, &Device::Cpu).expect("a vector")
}

fn on(device: &Device, tensor: &Tensor) -> Tensor {
    tensor.to_device(device).expect("copied")
}

fn stored(tensor: &Tensor) -> StoredTensor {
    let values = tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("values");
    StoredTensor::of_values(&values, tensor.dims().to_vec()).expect("stored")
}

/// The largest difference, relative to the largest value.
fn error(found: &Tensor, wanted: &Tensor) -> f32 {
    let values = |tensor: &Tensor| -> Vec<f32> {
        let tensor = tensor.to_device(&Device::Cpu).expect("copied");
        tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("values")
    };
    assert_eq!(found.dims(), wanted.dims());
    let (found, wanted) = (values(found), values(wanted));
    let largest = wanted.iter().fold(1e-6f32, |most, number| most.max(number.abs()));
    let worst = |worst: f32, (one, other): (&f32, &f32)| {
        if (one - other).abs() <= worst { worst } else { (one - other).abs() }
    };
    found.iter().zip(&wanted).fold(0.0, worst) / largest
}

fn check(found: &Tensor, wanted: &Tensor, most: f32, what: &str) {
    let error = error(found, wanted);
    assert!(error <= most, "{what}: {error}");
}

#[test]
fn norms() {
    let Some(device) = device() else { return };
    for (rows, width) in [(1, 32), (3, 384), (17, 1024), (130, 4096), (5, 100)] {
        let what = format!("{rows} x {width}");
        let (x, weight, bias) = (matrix(rows, width, 1), vector(width, 2), vector(width, 3));
        let (gx, gw, gb) = (on(&device, &x), on(&device, &weight), on(&device, &bias));
        let found = norm::rms_norm(&gx, &gw, 1e-6).expect("computed");
        check(&found, &reference::norm::rms_norm(&x, &weight, 1e-6).expect("plain"), 1e-5, &what);
        let found = norm::layer_norm(&gx, &gw, Some(&gb), 1e-5).expect("computed");
        let wanted = reference::norm::layer_norm(&x, &weight, Some(&bias), 1e-5).expect("plain");
        check(&found, &wanted, 1e-5, &what);
    }
}

#[test]
fn linear_layers() {
    let Some(device) = device() else { return };
    for (precision, most) in PRECISIONS {
        for (rows, depth, columns) in
            [(1, 64, 32), (16, 1024, 3072), (130, 384, 1536), (77, 96, 48)]
        {
            let what = format!("{precision:?} {rows} x {depth} x {columns}");
            let (x, weights) = (matrix(rows, depth, 1), matrix(columns, depth, 2));
            let (bias, residual) = (vector(columns, 3), matrix(rows, columns, 4));
            let (stored_weights, stored_bias) = (stored(&weights), stored(&bias));
            let layer = Linear::new(&[&stored_weights], &[&stored_bias], depth, precision, &device)
                .expect("a layer");
            let gx = on(&device, &x);
            for activation in [None, Some(Activation::Gelu), Some(Activation::Silu)] {
                let plain = |residual| {
                    reference::linear::linear(&x, &weights, Some(&bias), activation, residual)
                        .expect("plain")
                };
                let found = layer.forward_with(&gx, activation, None).expect("computed");
                check(&found, &plain(None), most, &what);
                let rows = Rows::of(&on(&device, &residual)).expect("rows");
                let found = layer.forward_with(&gx, activation, Some(&rows)).expect("computed");
                check(&found, &plain(Some(&residual)), most, &what);
            }
        }
    }
}

#[test]
fn gated_layers() {
    let Some(device) = device() else { return };
    for (precision, most) in PRECISIONS {
        for (rows, depth, width) in [(1, 64, 32), (33, 256, 100), (128, 1024, 3072)] {
            let (x, gate, value) =
                (matrix(rows, depth, 1), matrix(width, depth, 2), matrix(width, depth, 3));
            let down = matrix(64, width, 4);
            let padded = GatedLinear::padded(width);
            let make = |device: &Device, precision| {
                let (gate, value) = (stored(&gate), stored(&value));
                let gated = GatedLinear::new(&gate, &value, Activation::Silu, precision, device);
                let down = Linear::new(&[&stored(&down)], &[], padded, precision, device);
                (gated.expect("a layer"), down.expect("a layer"))
            };
            let run = |(gated, down): &(GatedLinear, Linear), x: &Tensor| {
                let x =
                    proxima_kernels::ops::linear_input::LinearInput::of(x, gated.input_layout())
                        .expect("x");
                let between = gated.apply_for(&x, down.input_layout()).expect("computed");
                down.of(&between, None, None).and_then(|rows| rows.tensor()).expect("computed")
            };
            let found = run(&make(&device, precision), &on(&device, &x));
            let wanted = run(&make(&Device::Cpu, Precision::Float32), &x);
            check(&found, &wanted, most, &format!("{precision:?} {rows} x {depth} x {width}"));
        }
    }
}

#[test]
fn rotary_positions() {
    let Some(device) = device() else { return };
    for (heads, kv_heads, size, with_norms) in
        [(16, 8, 128, true), (12, 12, 64, false), (2, 1, 32, true)]
    {
        let heads = Heads { heads, kv_heads, size };
        let positions: Vec<u32> = (0..45).map(|at| (at * 7) % 100).collect();
        let qkv = matrix(45, heads.row(), 1);
        let norms = |device: &Device| {
            with_norms.then(|| HeadNorms {
                queries: on(device, &vector(size, 2)),
                keys: on(device, &vector(size, 3)),
                eps: 1e-6,
            })
        };
        let tables = |device: &Device| RotaryTables::new(100, size, 1e6, device).expect("tables");
        let cpu = Device::Cpu;
        let wanted = reference::rotary::rotary(
            &qkv,
            heads,
            norms(&cpu).as_ref(),
            &positions,
            tables(&cpu).tables(),
        );
        let rows = Rows::of(&on(&device, &qkv)).expect("rows");
        let norms = norms(&device);
        let found = rotary::rotary(rows, heads, norms.as_ref(), &positions, &tables(&device));
        let found = found.and_then(|rows| rows.tensor()).expect("computed");
        check(&found, &wanted.expect("plain"), 1e-5, &format!("{heads:?}"));
    }
}

/// Two sequences that share a prefix, one alone, and one after a cached part.
fn shared_runs() -> Vec<Segment> {
    let segment = |rows, start, ancestors| Segment { rows, start, ancestors };
    vec![
        segment(0..70, 0, vec![]),
        segment(70..75, 70, vec![Ancestor::Batch(0..70)]),
        segment(75..140, 70, vec![Ancestor::Batch(0..70)]),
        segment(140..141, 0, vec![]),
        segment(141..150, 33, vec![Ancestor::Cached(0)]),
    ]
}

#[test]
fn attention_of_every_kind() {
    let Some(device) = device() else { return };
    for (precision, most) in PRECISIONS {
        for (heads, kv_heads, size) in
            [(16, 8, 128), (4, 4, 64), (12, 4, 32), (2, 2, 72), (3, 1, 80), (2, 1, 96), (3, 1, 256)]
        {
            let heads = Heads { heads, kv_heads, size };
            let inner = heads.heads * size;
            let cached = matrix(33, 2 * kv_heads * size, 5);
            let cases = [
                (segments_of(&[0, 1, 64, 65, 200]), Mask::Full),
                (segments_of(&[0, 130, 137, 200]), Mask::Causal),
                (segments_of(&[0, 150, 200]), Mask::Window(64)),
                (shared_runs(), Mask::Causal),
            ];
            for (segments, mask) in cases {
                let rows = segments.last().map_or(0, |segment| segment.rows.end);
                let qkv = matrix(rows, heads.row(), 1);
                let identity = Tensor::eye(inner, proxima_kernels::DType::F32, &Device::Cpu);
                let next = stored(&identity.expect("a matrix"));
                let next = Linear::new(&[&next], &[], inner, precision, &device).expect("a layer");
                let wanted = reference::attention::attention(
                    &qkv,
                    heads,
                    Sequences { segments: &segments, cached: &[&cached] },
                    mask,
                )
                .expect("plain");
                let dtype = match precision {
                    Precision::Bfloat16 => proxima_kernels::DType::BF16,
                    Precision::Float16 => proxima_kernels::DType::F16,
                    _ => proxima_kernels::DType::F32,
                };
                let qkv = on(&device, &qkv).to_dtype(dtype).expect("rounded");
                let qkv = Rows::of(&qkv).expect("rows");
                let cached = on(&device, &cached);
                let found = attention_for(
                    &qkv,
                    heads,
                    Sequences { segments: &segments, cached: &[&cached] },
                    mask,
                    &next,
                );
                let found = next.of(&found.expect("computed"), None, None);
                let found = found.and_then(|rows| rows.tensor()).expect("computed");
                check(&found, &wanted, most, &format!("{precision:?} {heads:?} {mask:?}"));
            }
        }
    }
}

#[test]
fn embeddings_and_pooling() {
    let Some(device) = device() else { return };
    for width in [48, 384, 1024] {
        let table = matrix(50, width, 1);
        let make = |device: &Device| Embedding::new(stored(&table), device).expect("a table");
        let (ids, more) = ([3, 3, 49, 0, 17], [1, 2, 3, 4, 5]);
        let weights = [(0, 0.5), (1, 0.25), (2, 0.125), (3, 0.125)];
        let corners = [weights.map(|(row, weight)| Corner { row, weight }); 5];
        let run = |embedding: &Embedding| {
            let rows = embedding.rows_of(&ids).expect("rows");
            let rows = embedding.add_rows_of(&more, rows).expect("rows");
            let rows = embedding.add_weighted(&corners, rows).expect("rows");
            rows.tensor().expect("a tensor")
        };
        let (found, wanted) = (run(&make(&device)), run(&make(&Device::Cpu)));
        check(&found, &wanted, 1e-6, "embeddings");
        for pooling in Pooling::ALL {
            let run = |rows: &Tensor| pool(rows, &[0, 1, 5], &[1, 2], pooling).expect("pooled");
            check(&run(&found), &run(&wanted), 1e-5, pooling.name());
        }
    }
}

#[test]
fn a_row_has_the_same_bits_among_any_number_of_rows() {
    let Some(device) = device() else { return };
    for (depth, columns) in [(1024, 3072), (3072, 1024), (384, 384)] {
        let (x, weights) = (matrix(4096, depth, 1), matrix(columns, depth, 2));
        let (bias, residual) = (vector(columns, 3), matrix(4096, columns, 4));
        for (precision, _) in PRECISIONS {
            for added in [false, true] {
                let biases = added.then(|| stored(&bias));
                let biases: Vec<&StoredTensor> = biases.iter().collect();
                let layer = Linear::new(&[&stored(&weights)], &biases, depth, precision, &device);
                let layer = layer.expect("a layer");
                let part = |of: &Tensor, rows| on(&device, &of.narrow(0, 0, rows).expect("rows"));
                let row = |rows: usize| -> Vec<f32> {
                    let before = added.then(|| Rows::of(&part(&residual, rows)).expect("rows"));
                    let out = layer.forward_with(&part(&x, rows), None, before.as_ref());
                    let first = out.and_then(|out| out.narrow(0, 0, 1)?.flatten_all());
                    first.and_then(|out| out.to_vec1()).expect("values")
                };
                let alone = row(1);
                let differs = |rows: &usize| row(*rows) != alone;
                let differing: Vec<usize> =
                    [2, 16, 17, 64, 100, 512, 1000, 4096].into_iter().filter(differs).collect();
                let what = format!("{precision:?} {depth} x {columns}, added {added}");
                assert!(differing.is_empty(), "{what}: other bits among {differing:?} rows");
            }
        }
    }
}
