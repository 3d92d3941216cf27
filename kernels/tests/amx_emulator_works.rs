//! AMX instructions, run by the emulator or by a CPU that has them: tile products against plain
//! arithmetic. The folder of the same name has all other tests.
//! Must not know: kernels, candle, how the emulator is built.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod amx_emulator;
#[path = "amx_emulator_works/faults.rs"]
mod faults;
#[path = "amx_emulator_works/memory.rs"]
mod memory;

use std::arch::asm;

use half::bf16;

/// The operand of LDTILECFG.
#[repr(C, align(64))]
#[derive(Clone, PartialEq, Debug)]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 8],
    reserved_bytes: [u16; 8],
    rows: [u8; 8],
    reserved_rows: [u8; 8],
}

const EMPTY: Configuration = Configuration {
    palette: 0,
    start_row: 0,
    reserved: [0; 14],
    bytes: [0; 8],
    reserved_bytes: [0; 8],
    rows: [0; 8],
    reserved_rows: [0; 8],
};

/// A configuration of the first tiles, each as (rows, bytes of a row).
fn configuration(shapes: &[(u8, u16)]) -> Configuration {
    let mut made = Configuration { palette: 1, ..EMPTY };
    for (tile, &(rows, bytes)) in shapes.iter().enumerate() {
        (made.rows[tile], made.bytes[tile]) = (rows, bytes);
    }
    made
}

fn load_configuration(configuration: &Configuration) {
    amx_emulator::install();
    // SAFETY: the operand is 64 readable bytes; the compiler knows of no tile that holds anything
    // across asm blocks.
    unsafe { asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack)) };
}

/// Bytes that differ from their neighbours in every direction.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

/// The operands of a product of `rows * depth` by `depth * columns` dwords, row-major.
struct Operands<'a> {
    rows: usize,
    columns: usize,
    depth: usize,
    lefts: &'a [u32],
    rights: &'a [u32],
}

/// Defines a function that adds a product to the matrix `sums` with the given instruction.
macro_rules! product {
    ($name:ident, $mnemonic:literal) => {
        fn $name(sums: &mut [u32], operands: &Operands) {
            let &Operands { rows, columns, depth, lefts, rights } = operands;
            assert_eq!(sums.len(), rows * columns);
            assert_eq!((lefts.len(), rights.len()), (rows * depth, depth * columns));
            let wide = 4 * columns as u16;
            load_configuration(&configuration(&[
                (rows as u8, wide),
                (rows as u8, 4 * depth as u16),
                (depth as u8, wide),
            ]));
            // SAFETY: the configuration and the strides stay within the slices, as just asserted.
            unsafe {
                asm!(
                    "tileloadd tmm0, [{sums} + {wide}]",
                    "tileloadd tmm1, [{lefts} + {deep}]",
                    "tileloaddt1 tmm2, [{rights} + {wide}]",
                    concat!($mnemonic, " tmm0, tmm1, tmm2"),
                    "tilestored [{sums} + {wide}], tmm0",
                    "tilerelease",
                    sums = in(reg) sums.as_mut_ptr(),
                    lefts = in(reg) lefts.as_ptr(),
                    rights = in(reg) rights.as_ptr(),
                    wide = in(reg) 4 * columns,
                    deep = in(reg) 4 * depth,
                    out("tmm0") _,
                    out("tmm1") _,
                    out("tmm2") _,
                    options(nostack),
                );
            }
        }
    };
}

product!(add_bf16, "tdpbf16ps");
product!(add_signed_signed, "tdpbssd");
product!(add_signed_unsigned, "tdpbsud");
product!(add_unsigned_signed, "tdpbusd");
product!(add_unsigned_unsigned, "tdpbuud");

/// (rows, columns, depth) of products: whole tiles, partial tiles, single dwords.
const SHAPES: [(usize, usize, usize); 6] =
    [(16, 16, 16), (1, 1, 1), (3, 5, 7), (16, 1, 9), (1, 16, 16), (7, 13, 2)];

fn pairs(numbers: impl Iterator<Item = f32>) -> Vec<u32> {
    let bits: Vec<u16> = numbers.map(|number| bf16::from_f32(number).to_bits()).collect();
    bits.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
}

fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

fn high(pair: u32) -> f32 {
    f32::from_bits(pair >> 16 << 16)
}

/// `count` pseudo-random values between -1 and 1.
fn noise(count: usize, seed: f64) -> impl Iterator<Item = f32> {
    (0..count).map(move |at| ((at as f64 + seed).sin() * 43_758.547).fract() as f32)
}

#[test]
fn bf16_products_round_in_the_documented_order() {
    for (rows, columns, depth) in SHAPES {
        let lefts = pairs(noise(2 * rows * depth, 0.5));
        let rights = pairs(noise(2 * depth * columns, 7.25));
        let before: Vec<f32> = noise(rows * columns, 3.0).collect();
        let mut sums: Vec<u32> = before.iter().map(|sum| sum.to_bits()).collect();
        let operands = Operands { rows, columns, depth, lefts: &lefts, rights: &rights };
        add_bf16(&mut sums, &operands);
        for (at, (sum, before)) in sums.iter().zip(before).enumerate() {
            let (row, column) = (at / columns, at % columns);
            let (mut lows, mut highs) = (0.0_f32, 0.0_f32);
            for k in 0..depth {
                let (left, right) = (lefts[row * depth + k], rights[k * columns + column]);
                lows = low(left).mul_add(low(right), lows);
                highs = high(left).mul_add(high(right), highs);
            }
            let expected = before + (lows + highs);
            assert_eq!(f32::from_bits(*sum), expected, "{rows}x{columns}x{depth} at {at}");
        }
    }
}

/// The sum that one product with two pairs leaves in a tile of one element.
fn one_bf16_sum(before: f32, left: [f32; 4], right: [f32; 4]) -> f32 {
    let mut sum = [before.to_bits()];
    let (lefts, rights) = (pairs(left.into_iter()), pairs(right.into_iter()));
    let operands = Operands { rows: 1, columns: 1, depth: 2, lefts: &lefts, rights: &rights };
    add_bf16(&mut sum, &operands);
    f32::from_bits(sum[0])
}

#[test]
fn denormals_are_zero_in_operands_and_results() {
    let tiny = 2.0_f32.powi(-130);
    assert!(tiny.is_subnormal() && bf16::from_f32(tiny).to_f32() == tiny);
    let ones = [1.0; 4];
    assert_eq!(one_bf16_sum(0.0, [tiny; 4], [2.0_f32.powi(100); 4]), 0.0, "a left denormal");
    assert_eq!(one_bf16_sum(0.0, [2.0_f32.powi(100); 4], [tiny; 4]), 0.0, "a right denormal");
    assert_eq!(one_bf16_sum(tiny, ones, [0.0; 4]), 0.0, "a denormal sum before");
    let small = 2.0_f32.powi(-65);
    assert_eq!(one_bf16_sum(0.0, [small; 4], [small; 4]), 0.0, "a denormal product");
    // Each product is a denormal; if they were not flushed, the two would add up to the smallest
    // normal number.
    let (left, right) = (2.0_f32.powi(-64), 2.0_f32.powi(-63));
    let cached = one_bf16_sum(0.0, [left, 0.0, left, 0.0], [right, 0.0, right, 0.0]);
    assert_eq!(cached, 0.0, "a denormal within a chain");
    let normal = f32::MIN_POSITIVE;
    assert_eq!(one_bf16_sum(0.0, [normal, 0.0, 0.0, 0.0], ones), normal, "the least normal");
    // The difference of two normal numbers is below the smallest normal one.
    let differing = [1.5 * normal, 0.0, -normal, 0.0];
    assert_eq!(one_bf16_sum(0.0, differing, ones), 0.0, "a denormal step of a chain");
    assert_eq!(one_bf16_sum(-1.5 * normal, [normal, 0.0, 0.0, 0.0], ones), 0.0, "the last step");
}

#[test]
fn nan_and_infinity_reach_the_sums_they_belong_to() {
    assert!(one_bf16_sum(1.0, [f32::NAN, 0.0, 0.0, 0.0], [1.0; 4]).is_nan());
    assert!(one_bf16_sum(f32::NAN, [0.0; 4], [1.0; 4]).is_nan());
    assert!(one_bf16_sum(0.0, [f32::INFINITY, 0.0, 0.0, 0.0], [0.0; 4]).is_nan());
    let infinite = one_bf16_sum(0.0, [f32::INFINITY, 1.0, 1.0, 1.0], [1.0; 4]);
    assert_eq!(infinite, f32::INFINITY);
    let lefts = pairs([1.0, 2.0, f32::NAN, 0.0, 3.0, 4.0].into_iter());
    let rights = pairs([1.0, 1.0, 10.0, 10.0].into_iter());
    let mut sums = [0; 6];
    let operands = Operands { rows: 3, columns: 2, depth: 1, lefts: &lefts, rights: &rights };
    add_bf16(&mut sums, &operands);
    let sums = sums.map(f32::from_bits);
    assert!(sums[2].is_nan() && sums[3].is_nan(), "the row of the NaN");
    assert_eq!([sums[0], sums[1], sums[4], sums[5]], [3.0, 30.0, 7.0, 70.0]);
}

/// A product function and whether its left and right bytes are signed.
type ByteProduct = (fn(&mut [u32], &Operands), bool, bool);

#[test]
fn byte_products_have_their_signs_and_wrap() {
    const PRODUCTS: [ByteProduct; 4] = [
        (add_signed_signed, true, true),
        (add_signed_unsigned, true, false),
        (add_unsigned_signed, false, true),
        (add_unsigned_unsigned, false, false),
    ];
    let widened = |byte: u8, signed: bool| match signed {
        true => i64::from(byte as i8),
        false => i64::from(byte),
    };
    for (add, left_signed, right_signed) in PRODUCTS {
        for (rows, columns, depth) in SHAPES {
            let bytes = pattern(4 * (rows + columns) * depth);
            let (left, right) = bytes.split_at(4 * rows * depth);
            let dwords = |bytes: &[u8]| -> Vec<u32> {
                bytes.as_chunks().0.iter().map(|dword| u32::from_le_bytes(*dword)).collect()
            };
            let (lefts, rights) = (dwords(left), dwords(right));
            // Near both ends of i32, so that some sums wrap.
            let before =
                |at: usize| if at.is_multiple_of(2) { i32::MAX - 500 } else { i32::MIN + 500 };
            let mut sums: Vec<u32> = (0..rows * columns).map(|at| before(at) as u32).collect();
            add(&mut sums, &Operands { rows, columns, depth, lefts: &lefts, rights: &rights });
            for (at, sum) in sums.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let dot: i64 = (0..4 * depth)
                    .map(|k| {
                        let r = right[4 * (k / 4 * columns + column) + k % 4];
                        widened(left[row * 4 * depth + k], left_signed) * widened(r, right_signed)
                    })
                    .sum();
                let expected = (i64::from(before(at)) + dot) as i32;
                let what = format!("{left_signed} {right_signed} {rows}x{columns}x{depth} {at}");
                assert_eq!(*sum as i32, expected, "{what}");
            }
        }
    }
}
