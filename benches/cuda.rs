//! Time of each operation of a layer of Qwen3-0.6B on a CUDA device, in bfloat16, with the rate of
//! what it must move or multiply:
//! `cargo bench -p proxima-kernels --features cuda --bench cuda_times`. Row counts after `--`
//! select these alone.
//!
//! Each is queued many times and waited for once, so with few rows this is the time of a launch.

use std::time::Instant;

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::linear::{GatedLinear, Linear, NormAfter};
use proxima_kernels::ops::linear_input::{InputLayout, LinearInput};
use proxima_kernels::ops::norm::rms_norm_for;
use proxima_kernels::ops::replay::{Recordings, next_layer};
use proxima_kernels::ops::rotary::{RotaryTables, rotary};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, HeadNorms, Heads, Mask, Precision, segments_of};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{DType, Device, KernelError, Tensor, cuda};

const HIDDEN: usize = 1024;
const MLP: usize = 3072;
const HEADS: Heads = Heads { heads: 16, kv_heads: 8, size: 128 };
/// Tokens per document.
const LENGTH: usize = 512;

type Result<T> = std::result::Result<T, KernelError>;

struct Layer {
    norm: Tensor,
    qkv: Linear,
    head_norms: HeadNorms,
    output: Linear,
    gated: GatedLinear,
    down: Linear,
    tables: RotaryTables,
}

impl Layer {
    fn new(device: &Device) -> Result<Self> {
        let linear = |columns: usize, depth: usize| {
            Linear::new(&[&weights(columns, depth)], &[], depth, Precision::Bfloat16, device)
        };
        let head_norm = || Tensor::ones(HEADS.size, DType::F32, device);
        let (gate, value) = (weights(MLP, HIDDEN), weights(MLP, HIDDEN));
        let silu = Activation::Silu;
        Ok(Self {
            norm: Tensor::ones(HIDDEN, DType::F32, device)?,
            qkv: linear(HEADS.row(), HIDDEN)?,
            head_norms: HeadNorms { queries: head_norm()?, keys: head_norm()?, eps: 1e-6 },
            output: linear(HIDDEN, HEADS.heads * HEADS.size)?,
            gated: GatedLinear::new(&gate, &value, silu, Precision::Bfloat16, device)?,
            down: linear(HIDDEN, MLP)?,
            tables: RotaryTables::new(LENGTH, HEADS.size, 1e6, device)?,
        })
    }

    /// The layer, computed as in the decoder.
    fn forward(
        &self,
        (hidden, normed): &(Rows, LinearInput),
        offsets: &[usize],
        positions: &[u32],
    ) -> Result<(Rows, LinearInput)> {
        let qkv = self.qkv.of(normed, None, None)?;
        let qkv = rotary(qkv, HEADS, Some(&self.head_norms), positions, &self.tables)?;
        let segments = segments_of(offsets);
        let mixed =
            attention_for(&qkv, HEADS, segments.as_slice().into(), Mask::Causal, &self.output)?;
        let (hidden, normed) =
            self.output.add_and_norm(&mixed, hidden, self.behind(self.gated.input_layout()))?;
        let between = self.gated.apply_for(&normed, self.down.input_layout())?;
        self.down.add_and_norm(&between, &hidden, self.behind(self.qkv.input_layout()))
    }

    fn behind(&self, layout: InputLayout) -> NormAfter<'_> {
        NormAfter { weight: &self.norm, eps: 1e-6, layout }
    }
}

/// Fixed pseudo-random weights, as in a checkpoint.
fn weights(columns: usize, depth: usize) -> StoredTensor {
    let mut state = (columns * depth) as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.05
    };
    let values: Vec<f32> = (0..columns * depth).map(|_| next()).collect();
    StoredTensor::of_values(&values, vec![columns, depth]).expect("weights")
}

/// Normally distributed rows.
fn rows(count: usize, width: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    Tensor::randn(0.0f32, 1.0, (count, width), device)?.to_dtype(dtype)
}

/// Seconds per run, of many runs queued at once: the median of five timings.
fn seconds(device: &Device, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let timed = |count: u32, run: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        device.synchronize()?;
        let begun = Instant::now();
        (0..count).try_for_each(|_| run())?;
        device.synchronize()?;
        Ok(begun.elapsed().as_secs_f64() / f64::from(count))
    };
    let once = timed(3, &mut run)?;
    let count = (0.03 / once).clamp(3.0, 2000.0) as u32;
    let mut times: Vec<f64> = (0..5).map(|_| timed(count, &mut run)).collect::<Result<_>>()?;
    times.sort_by(f64::total_cmp);
    Ok(times[2])
}

/// The least work that an operation does.
#[derive(Clone, Copy)]
enum Work {
    Moves(usize),
    Multiplies(usize),
}

fn report(name: &str, rows: usize, seconds: f64, work: Work) {
    let rate = match work {
        Work::Moves(bytes) => format!("{:8.2} TB/s", bytes as f64 / seconds / 1e12),
        Work::Multiplies(count) => format!("{:8.1} TFLOP/s", 2.0 * count as f64 / seconds / 1e12),
    };
    println!("{rows:>7} rows  {name:<22} {:>10.2} us  {rate}", seconds * 1e6);
}

fn measure(device: &Device, layer: &Layer, count: usize) -> Result<()> {
    let timed = |name: &str, work: Work, segment: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        report(name, count, seconds(device, segment)?, work);
        Ok(())
    };
    let offsets: Vec<usize> = (0..count).step_by(LENGTH).chain([count]).collect();
    let positions: Vec<u32> = (0..count).map(|row| (row % LENGTH) as u32).collect();
    let hidden = Rows::of(&rows(count, HIDDEN, DType::F32, device)?)?;
    let normed = rms_norm_for(&hidden, &layer.norm, 1e-6, layer.qkv.input_layout())?;
    let qkv = rows(count, HEADS.row(), DType::BF16, device)?;
    let inner = HEADS.heads * HEADS.size;

    timed("rms_norm", Work::Moves(count * HIDDEN * 6), &mut || {
        rms_norm_for(&hidden, &layer.norm, 1e-6, layer.qkv.input_layout()).map(drop)
    })?;
    timed("product qkv", Work::Multiplies(count * HIDDEN * HEADS.row()), &mut || {
        layer.qkv.of(&normed, None, None).map(drop)
    })?;
    let mut turned = Some(Rows::of(&qkv)?);
    let turned_bytes = count * (HEADS.heads + HEADS.kv_heads) * HEADS.size * 4;
    timed("rotary", Work::Moves(turned_bytes), &mut || {
        let given = turned.take().expect("rows");
        let norms = Some(&layer.head_norms);
        turned = Some(rotary(given, HEADS, norms, &positions, &layer.tables)?);
        Ok(())
    })?;
    let qkv = Rows::of(&qkv)?;
    let segments = segments_of(&offsets);
    let seen: usize =
        segments.iter().map(|segment| segment.rows.len() * (segment.rows.len() + 1) / 2).sum();
    timed("attention", Work::Multiplies(seen * 2 * inner), &mut || {
        attention_for(&qkv, HEADS, segments.as_slice().into(), Mask::Causal, &layer.output)
            .map(drop)
    })?;
    let mixed =
        attention_for(&qkv, HEADS, segments.as_slice().into(), Mask::Causal, &layer.output)?;
    timed("product output", Work::Multiplies(count * inner * HIDDEN), &mut || {
        layer.output.of(&mixed, None, None).map(drop)
    })?;
    timed("product output, norm", Work::Multiplies(count * inner * HIDDEN), &mut || {
        let norm = layer.behind(layer.gated.input_layout());
        layer.output.add_and_norm(&mixed, &hidden, norm).map(drop)
    })?;
    timed("product and gate", Work::Multiplies(count * HIDDEN * 2 * MLP), &mut || {
        layer.gated.apply_for(&normed, layer.down.input_layout()).map(drop)
    })?;
    let between = layer.gated.apply_for(&normed, layer.down.input_layout())?;
    timed("product down, norm", Work::Multiplies(count * MLP * HIDDEN), &mut || {
        let norm = layer.behind(layer.qkv.input_layout());
        layer.down.add_and_norm(&between, &hidden, norm).map(drop)
    })?;
    let weights = HIDDEN * (HEADS.row() + inner + 3 * MLP);
    let given = (hidden, normed);
    timed("layer", Work::Multiplies(count * weights), &mut || {
        layer.forward(&given, &offsets, &positions).map(drop)
    })?;
    if count > 128 {
        return Ok(());
    }
    let input = given.0.tensor()?;
    let seconds = replayed(device, layer, &input, (&offsets, &positions))?;
    report("28 layers, replayed", count, seconds, Work::Multiplies(28 * count * weights));
    Ok(())
}

/// Seconds for all layers of a short batch, recorded and replayed.
fn replayed(
    device: &Device,
    layer: &Layer,
    input: &Tensor,
    (offsets, positions): (&[usize], &[u32]),
) -> Result<f64> {
    let recordings = Recordings::default();
    seconds(device, || {
        let layers = |hidden, _: &dyn Fn()| {
            let normed = rms_norm_for(&hidden, &layer.norm, 1e-6, layer.qkv.input_layout())?;
            let mut state = (hidden, normed);
            for _ in 0..28 {
                next_layer();
                state = layer.forward(&state, offsets, positions)?;
            }
            Ok(state.0)
        };
        recordings.run(&[0], Rows::of(input)?, &|| {}, layers).map(drop)
    })
}

fn main() {
    let device = match cuda::device(0, None) {
        Ok(device) => device,
        Err(error) => return println!("nothing is measured: {error}"),
    };
    let given: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let counts = if given.is_empty() { vec![16, 64, 512, 4096, 16384, 65536] } else { given };
    let measured = Layer::new(&device)
        .and_then(|layer| counts.iter().try_for_each(|count| measure(&device, &layer, *count)));
    if let Err(error) = measured {
        println!("failed: {error}");
    }
}
