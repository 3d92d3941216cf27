//! Embedding lookup.
//!
//! Must not know: how threads run.

use half::{bf16, f16};
use proxima_emulator::{Arg, Buffer, read, write};

use super::device::*;

fn gather<T: Float>(table: &[f32], ids: &[u32], width: usize, old: Option<&[f32]>) -> Vec<f32> {
    let mut out = match old {
        Some(old) => Buffer::of(old),
        None => unwritten::<f32>(ids.len() * width),
    };
    let (table, uploaded) = (stored::<T>(table), Buffer::of(ids));
    let sizes = [ids.len(), width, usize::from(old.is_some())].map(int);
    let args: Vec<Arg> =
        [read(&table), read(&uploaded)].into_iter().chain(sizes).chain([write(&mut out)]).collect();
    launch(&format!("gather_{}", T::NAME), [ids.len(), 1], 128, &args);
    out.elements()
}

fn rows_are_gathered<T: Float>() {
    for width in [1, 7, 8, 100, 128, 1024, 1032] {
        let table = rounded::<T>(&random_values(5 * width, 1));
        let ids = [4, 0, 3, 3, 1, 2, 0];
        let old = random_values(ids.len() * width, 2);
        let rows = ids.iter().flat_map(|id| &table[*id as usize * width..][..width]);
        let rows: Vec<f32> = rows.copied().collect();
        let sums: Vec<f32> = old.iter().zip(&rows).map(|(old, row)| old + row).collect();
        assert!(same(&gather::<T>(&table, &ids, width, None), &rows), "{} {width}", T::NAME);
        assert!(same(&gather::<T>(&table, &ids, width, Some(&old)), &sums), "{} {width}", T::NAME);
    }
}

#[test]
fn rows_of_tables_are_gathered_exactly() {
    rows_are_gathered::<f32>();
    rows_are_gathered::<bf16>();
    rows_are_gathered::<f16>();
}

fn weighted_rows_are_added<T: Float>() {
    for width in [1, 6, 8, 130, 1024] {
        let table = rounded::<T>(&random_values(6 * width, 3));
        let (ids, weights) = ([5u32, 0, 1, 2, 3, 3, 4, 0], random_values(8, 4));
        let old = random_values(2 * width, 5);
        let expected: Vec<f32> = (0..2 * width)
            .map(|at| {
                let (row, column) = (at / width, at % width);
                let corners = (4 * row..4 * row + 4)
                    .map(|corner| table[ids[corner] as usize * width + column] * weights[corner]);
                old[at] + corners.sum::<f32>()
            })
            .collect();
        let (table, mut out) = (stored::<T>(&table), Buffer::of(&old));
        let (ids, weights) = (Buffer::of(&ids), Buffer::of(&weights));
        let args = [read(&table), read(&ids), read(&weights), int(2), int(width), write(&mut out)];
        launch(&format!("gather_weighted_{}", T::NAME), [2, 1], 128, &args);
        let what = format!("{} {width}", T::NAME);
        assert_close(&out.elements(), &expected, [1e-6, 1e-6], &what);
    }
}

#[test]
fn four_weighted_rows_are_added() {
    weighted_rows_are_added::<f32>();
    weighted_rows_are_added::<bf16>();
    weighted_rows_are_added::<f16>();
}
