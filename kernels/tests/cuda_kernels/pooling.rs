//! Pooling.
//!
//! Must not know: how threads run.

use proxima_emulator::{Buffer, read, write};
use proxima_kernels::ops::pool::pool;
use proxima_kernels::spec::Pooling;

use super::device::*;

/// Methods by the kernel's numbers.
const METHODS: [Pooling; 6] = [
    Pooling::Cls,
    Pooling::Mean,
    Pooling::Last,
    Pooling::Max,
    Pooling::WeightedMean,
    Pooling::MeanSqrtLength,
];

fn pooled(rows: &[f32], offsets: &[usize], width: usize, method: usize) -> Vec<f32> {
    let bounds: Vec<u32> =
        offsets.windows(2).flat_map(|pair| [pair[0] as u32, pair[1] as u32]).collect();
    let sequences = offsets.len() - 1;
    let mut out = unwritten::<f32>(sequences * width);
    let (rows, bounds) = (Buffer::of(rows), Buffer::of(&bounds));
    let args = [read(&rows), read(&bounds), int(width), int(method), int(width), write(&mut out)];
    launch("pool_f32", [width.div_ceil(128), sequences], 128, &args);
    out.elements()
}

#[test]
fn pooling_is_that_of_the_cpu() {
    let offsets = [0, 1, 3, 12, 13, 50];
    for width in [1, 127, 128, 129, 384] {
        let mut rows = random_values(50 * width, 1);
        rows[5 * width] = f32::NAN;
        for (number, method) in METHODS.into_iter().enumerate() {
            let expected = pool(&matrix(&rows, width), &offsets, &[0; 5], method).expect("pooled");
            let got = pooled(&rows, &offsets, width, number);
            assert_close(&got, &values_of(&expected), [1e-6, 1e-6], &format!("{method:?} {width}"));
            let seen = method != Pooling::Cls && method != Pooling::Last;
            assert_eq!(got.iter().filter(|value| value.is_nan()).count(), usize::from(seen));
        }
    }
}

#[test]
fn columns_after_the_dimensions_are_unchanged() {
    let (rows, bounds) = (Buffer::of(&random_values(300, 2)), Buffer::of(&[0u32, 2]));
    let mut out = unwritten::<f32>(150);
    let args = [read(&rows), read(&bounds), int(150), int(0), int(130), write(&mut out)];
    launch("pool_f32", [2, 1], 128, &args);
    let out = out.elements();
    assert!(same(&out[..130], &random_values(300, 2)[..130]));
    assert!(out[130..].iter().all(|value| value.is_nan()));
}
