//! Operations for images, against their plain forms in candle operations.

use proxima_kernels::ops::attention;
use proxima_kernels::reference;

use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::rotary::{RotaryTables, rotary};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Corner, Heads, Mask, Sequences, segments_of};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{Device, Tensor};

fn random_values(count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|at| scale * ((at as f32 * 12.9898).sin() * 43_758.547).fract()).collect()
}

fn tensor(rows: usize, width: usize) -> Tensor {
    Tensor::from_vec(random_values(rows * width, 2.0), (rows, width), &Device::Cpu)
        .expect("a tensor")
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).expect("the same shape").abs().expect("values");
    let worst = difference.flatten_all().expect("flat").max(0).expect("a maximum");
    worst.to_scalar().expect("a number")
}

/// Rotates heads element by element, in double precision.
fn turned(row: &[f32], size: usize, angle: impl Fn(usize) -> f64) -> Vec<f32> {
    let half = size / 2;
    let mut out = row.to_vec();
    for head in out.chunks_exact_mut(size) {
        for at in 0..half {
            let (sin, cos) = angle(at).sin_cos();
            let (a, b) = (f64::from(head[at]), f64::from(head[at + half]));
            head[at] = (a * cos - b * sin) as f32;
            head[at + half] = (b * cos + a * sin) as f32;
        }
    }
    out
}

#[test]
fn gathered_tables_turn_each_frequency_by_its_own_position() {
    let (size, theta) = (12, 5e6);
    let heads = Heads { heads: 2, kv_heads: 2, size };
    let tables = RotaryTables::new(64, size, theta, &Device::Cpu).expect("tables");
    let positions = [[0, 0, 0], [3, 9, 1], [63, 2, 40]];
    let streams: Vec<(usize, usize)> = (0..size / 2).map(|at| (at % 3, at)).collect();
    let gathered = tables.gathered(&positions, &streams).expect("gathered");
    let qkv = tensor(positions.len(), heads.row());
    let fast = rotary(Rows::of(&qkv).expect("rows"), heads, None, &[0, 1, 2], &gathered);
    let fast: Vec<Vec<f32>> =
        fast.expect("turned").tensor().expect("a tensor").to_vec2().expect("rows");
    for ((row, position), fast) in qkv.to_vec2().expect("rows").iter().zip(positions).zip(fast) {
        let frequency = |at: usize| 1.0 / theta.powf(2.0 * at as f64 / size as f64);
        let angle = |at: usize| f64::from(position[at % 3]) * frequency(at);
        let (both, values) = row.split_at(2 * 2 * size);
        let wanted: Vec<f32> =
            turned(both, size, angle).into_iter().chain(values.to_vec()).collect();
        let off = fast.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 2e-5, "{position:?} is {off} off");
    }
    assert!(tables.gathered(&[[64, 0, 0]], &streams).is_err(), "a position beyond the tables");
    assert!(tables.gathered(&[[0, 0]], &[(2, 0)]).is_err(), "a stream there is not");
    assert!(tables.gathered(&[[0, 0]], &[(0, size / 2)]).is_err(), "a frequency there is not");
}

#[test]
fn weighted_rows_are_sums_of_four() {
    let (table_rows, width) = (9, 37);
    let stored =
        StoredTensor::of_values(&random_values(table_rows * width, 1.0), vec![table_rows, width]);
    let table = Embedding::new(stored.expect("a table"), &Device::Cpu).expect("a table");
    let plain =
        Tensor::from_vec(random_values(table_rows * width, 1.0), (table_rows, width), &Device::Cpu);
    let plain: Vec<Vec<f32>> = plain.expect("a tensor").to_vec2().expect("rows");
    let corner = |row: u32, weight: f32| Corner { row: row % 9, weight };
    let corners: Vec<[Corner; 4]> = (0..130u32)
        .map(|at| [corner(at, 0.5), corner(at + 1, 0.25), corner(at + 3, 0.125), corner(8, 0.125)])
        .collect();
    let before = tensor(corners.len(), width);
    let sum = table.add_weighted(&corners, Rows::of(&before).expect("rows")).expect("added");
    let sum: Vec<Vec<f32>> = sum.tensor().expect("a tensor").to_vec2().expect("rows");
    for ((sum, before), corners) in
        sum.iter().zip(before.to_vec2::<f32>().expect("rows")).zip(&corners)
    {
        for (at, (sum, before)) in sum.iter().zip(before).enumerate() {
            let wanted: f32 =
                corners.iter().map(|corner| plain[corner.row as usize][at] * corner.weight).sum();
            assert!((sum - before - wanted).abs() < 1e-6);
        }
    }
    let beyond = table.add_weighted(
        &[[Corner { row: 9, weight: 1.0 }; 4]],
        Rows::of(&tensor(1, width)).expect("rows"),
    );
    assert!(beyond.is_err(), "a row there is not");
    let wide = table.add_weighted(&corners[..1], Rows::of(&tensor(1, width + 1)).expect("rows"));
    assert!(wide.is_err(), "another width");
}

#[test]
fn rows_are_put_over_or_added_to_others() {
    let write = |row: usize, out: &mut [f32]| out.fill(row as f32);
    let mut to = Rows::written([100, 5], &Device::Cpu, write).expect("rows");
    let from = Rows::written([10, 5], &Device::Cpu, |row, out| out.fill(0.5 + row as f32));
    let from = from.expect("rows");
    to.put(40, &from, 2..5, false).expect("put");
    to.put(97, &from, 7..10, true).expect("added");
    let first: Vec<f32> = to
        .tensor()
        .expect("a tensor")
        .to_vec2::<f32>()
        .expect("rows")
        .iter()
        .map(|row| row[4])
        .collect();
    for (row, value) in first.into_iter().enumerate() {
        let wanted = match row {
            40..43 => row as f32 - 40.0 + 2.5,
            97..100 => row as f32 + (row as f32 - 97.0 + 7.5),
            _ => row as f32,
        };
        assert_eq!(value, wanted, "row {row}");
    }
    assert!(to.put(98, &from, 0..3, false).is_err(), "beyond the rows");
    assert!(to.put(0, &from, 8..11, false).is_err(), "beyond the others");
    let narrow = Rows::written([1, 4], &Device::Cpu, |_, out| out.fill(0.0)).expect("rows");
    assert!(to.put(0, &narrow, 0..1, false).is_err(), "another width");
}

#[test]
fn full_attention_of_images_equals_its_plain_form() {
    // Head sizes 64 and 72, as in published vision towers.
    for (heads, size) in [(2, 64), (3, 72), (4, 16)] {
        let heads = Heads { heads, kv_heads: heads, size };
        let offsets = [0, 4, 28, 29 + 63];
        let qkv = tensor(offsets[3], heads.row());
        let segments = segments_of(&offsets);
        let fast = attention::attention(
            &qkv,
            heads,
            Sequences { segments: &segments, cached: &[] },
            Mask::Full,
        )
        .expect("attention");
        let plain = reference::attention::attention(
            &qkv,
            heads,
            Sequences { segments: &segments, cached: &[] },
            Mask::Full,
        )
        .expect("attention");
        assert!(worst(&fast, &plain) < 2e-5, "heads of {size}");
    }
}
