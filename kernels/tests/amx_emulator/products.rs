//! Tile products: TDPBF16PS and the four variants of TDPB[SU][SU]D.
//! Must not know: machine code, signals, memory operands.

use std::arch::asm;

use super::decode::{MicroKernel, Numbers};
use super::tiles::{Fault, Tile, Tiles};

/// All exceptions masked, rounding to nearest even, denormals zero in operands and results: what
/// TDPBF16PS uses, whatever the program's own MXCSR says.
const FLUSHING: u32 = 0x1f80 | 1 << 6 | 1 << 15;

/// A row of float32 values.
type Row = [f32; 16];

/// Adds a product to its tile.
pub fn accumulate(tiles: &mut Tiles, product: &MicroKernel) -> Result<(), Fault> {
    let &MicroKernel { numbers, into, left, right } = product;
    let [sums, lefts, rights] = tiles.for_product(into, left, right)?;
    let (rows, depth) = (tiles.shape(into).rows, tiles.shape(right).rows);
    let mut sums = *sums;
    let (lefts, rights) = (&lefts[..rows], &rights[..depth]);
    match numbers {
        Numbers::Bf16 => add_pairs(&mut sums, lefts, rights),
        Numbers::Bytes { left_signed: true, right_signed: true } => {
            add_bytes::<true, true>(&mut sums, lefts, rights);
        }
        Numbers::Bytes { left_signed: true, right_signed: false } => {
            add_bytes::<true, false>(&mut sums, lefts, rights);
        }
        Numbers::Bytes { left_signed: false, right_signed: true } => {
            add_bytes::<false, true>(&mut sums, lefts, rights);
        }
        Numbers::Bytes { left_signed: false, right_signed: false } => {
            add_bytes::<false, false>(&mut sums, lefts, rights);
        }
    }
    tiles.replace(into, &sums);
    Ok(())
}

fn add_bytes<const LEFT_SIGNED: bool, const RIGHT_SIGNED: bool>(
    sums: &mut Tile,
    lefts: &[[u32; 16]],
    rights: &[[u32; 16]],
) {
    for (sums, lefts) in sums.iter_mut().zip(lefts) {
        for (left, rights) in lefts.iter().zip(rights) {
            let left = left.to_le_bytes().map(widened::<LEFT_SIGNED>);
            for (sum, right) in sums.iter_mut().zip(rights) {
                let right = right.to_le_bytes().map(widened::<RIGHT_SIGNED>);
                let dot: i32 = left.iter().zip(right).map(|(l, r)| l * r).sum();
                *sum = sum.wrapping_add_signed(dot);
            }
        }
    }
}

fn widened<const SIGNED: bool>(byte: u8) -> i32 {
    if SIGNED { i32::from(byte as i8) } else { i32::from(byte) }
}

/// The low and the high bf16 of each dword form two chains of fused multiply-adds, each from zero;
/// the sum of both chains is then added to the tile. Every step rounds.
fn add_pairs(sums: &mut Tile, lefts: &[[u32; 16]], rights: &[[u32; 16]]) {
    let mut low_rights = [[0.0; 16]; 16];
    let mut high_rights = [[0.0; 16]; 16];
    for (row, pairs) in rights.iter().enumerate() {
        low_rights[row] = pairs.map(low);
        high_rights[row] = pairs.map(high);
    }
    let depth = rights.len();
    for (sums, lefts) in sums.iter_mut().zip(lefts) {
        let lows = chained(&lefts.map(low)[..depth], &low_rights[..depth]);
        let highs = chained(&lefts.map(high)[..depth], &high_rights[..depth]);
        let total = added(&sums.map(f32::from_bits), &added(&lows, &highs));
        *sums = total.map(f32::to_bits);
    }
}

fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

/// The sum over k of `factors[k] * rows[k]` in order, with one rounding per step.
///
/// Uses the CPU's own instructions and not `f32::mul_add`, because only they round and flush as AMX
/// does, down to results that are tiny before but not after rounding to a denormal's precision; and
/// MXCSR may differ from Rust's only inside one asm block.
fn chained(factors: &[f32], rows: &[Row]) -> Row {
    assert!(!rows.is_empty() && factors.len() == rows.len(), "a product has a depth");
    let mut sums = [0.0; 16];
    let mut saved = 0_u32;
    // SAFETY: `install` has checked for FMA. The loop reads as many factors and rows of 64
    // bytes as the slices have, the stores fill `sums` and `saved`, and MXCSR is restored.
    unsafe {
        asm!(
            "stmxcsr [{saved}]",
            "ldmxcsr [{flushing}]",
            "vxorps ymm1, ymm1, ymm1",
            "vxorps ymm2, ymm2, ymm2",
            "2:",
            "vbroadcastss ymm0, dword ptr [{factor}]",
            "vfmadd231ps ymm1, ymm0, [{row}]",
            "vfmadd231ps ymm2, ymm0, [{row} + 32]",
            "add {factor}, 4",
            "add {row}, 64",
            "dec {count}",
            "jnz 2b",
            "vmovups [{sums}], ymm1",
            "vmovups [{sums} + 32], ymm2",
            "ldmxcsr [{saved}]",
            saved = in(reg) &raw mut saved,
            flushing = in(reg) &FLUSHING,
            factor = inout(reg) factors.as_ptr() => _,
            row = inout(reg) rows.as_ptr() => _,
            count = inout(reg) rows.len() => _,
            sums = in(reg) sums.as_mut_ptr(),
            out("ymm0") _,
            out("ymm1") _,
            out("ymm2") _,
            options(nostack),
        );
    }
    sums
}

/// `a + b`, with rounding and flushing as in [`chained`].
fn added(a: &Row, b: &Row) -> Row {
    let mut sums = [0.0; 16];
    let mut saved = 0_u32;
    // SAFETY: as in `chained`; AVX comes with FMA, and all three rows are of 64 bytes.
    unsafe {
        asm!(
            "stmxcsr [{saved}]",
            "ldmxcsr [{flushing}]",
            "vmovups ymm0, [{a}]",
            "vmovups ymm1, [{a} + 32]",
            "vaddps ymm0, ymm0, [{b}]",
            "vaddps ymm1, ymm1, [{b} + 32]",
            "vmovups [{sums}], ymm0",
            "vmovups [{sums} + 32], ymm1",
            "ldmxcsr [{saved}]",
            saved = in(reg) &raw mut saved,
            flushing = in(reg) &FLUSHING,
            a = in(reg) a.as_ptr(),
            b = in(reg) b.as_ptr(),
            sums = in(reg) sums.as_mut_ptr(),
            out("ymm0") _,
            out("ymm1") _,
            options(nostack),
        );
    }
    sums
}
