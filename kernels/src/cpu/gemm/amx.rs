//! AMX micro-kernels: matrix products of tiles of 16 rows of 64 bytes, in bfloat16 or int8.
//!
//! AMX intrinsics are not stable, so tiles are used through inline assembly. A row panel has 32
//! rows and a panel 32 columns: four tiles of sums, two of activations and two of weights. Weights,
//! which all row panels share, stay in L1; activations stream past it (`tileloaddt1`). Denormals
//! are treated as zero.

use std::arch::asm;
use std::marker::PhantomData;

use super::micro_kernel::{Arithmetic, GemmOp, MicroKernel, PANEL_COLUMNS, Sums, check_tile};
use crate::cpu::isa::amx::Amx;
use crate::cpu::isa::avx512_bf16::Avx512Bf16;

/// Rows of a row panel: two tiles.
const PANEL_ROWS: usize = 32;
/// Bytes of one line of a row panel, for one part.
const X_LINE: usize = PANEL_ROWS * 64;
/// Bytes of 16 steps of weights.
const W_LINE: usize = 16 * PANEL_COLUMNS * 4;

/// The operand of `ldtilecfg`: palette 1, all eight tiles 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_a_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Amx {
    /// Runs a kernel with configured tiles and the micro-kernel that `make` builds on them.
    pub(in crate::cpu) fn enter_gemm<P: MicroKernel, K: GemmOp>(
        self,
        make: impl FnOnce(Configured) -> P,
        kernel: K,
    ) -> K::Output {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma"
        )]
        fn entered<P: MicroKernel, K: GemmOp>(simd: Avx512Bf16, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where tiles can be used; the configuration is valid. Tile
        // state is per thread, and no other code uses it.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) };
        let _release = Release;
        // SAFETY: the token contains the AVX512-BF16 token.
        unsafe { entered(self.simd(), make(Configured(PhantomData)), kernel) }
    }
}

/// Proof that this thread's tiles are configured; the pointer makes it `!Send`.
#[derive(Debug, Clone, Copy)]
pub struct Configured(PhantomData<*const ()>);

/// Releases the tiles, also on panic: while in use, they add 8 KiB to every context switch.
struct Release;

impl Drop for Release {
    fn drop(&mut self) {
        // SAFETY: constructed only where tiles are configured.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// This and the next two macros load, zero or store the four tiles of sums. With two tiles, the
/// lower 16 rows are left out.
macro_rules! load_sums {
    (4) => {
        "tileloadd tmm0, [{c} + {cs}*1]
         tileloadd tmm1, [{c} + {cs}*1 + 64]
         tileloadd tmm2, [{d} + {cs}*1]
         tileloadd tmm3, [{d} + {cs}*1 + 64]"
    };
    (2) => {
        "tileloadd tmm0, [{c} + {cs}*1]
         tileloadd tmm1, [{c} + {cs}*1 + 64]"
    };
}
macro_rules! zero_sums {
    (4) => {
        "tilezero tmm0
         tilezero tmm1
         tilezero tmm2
         tilezero tmm3"
    };
    (2) => {
        "tilezero tmm0
         tilezero tmm1"
    };
}
macro_rules! store_sums {
    (4) => {
        "tilestored [{c} + {cs}*1], tmm0
         tilestored [{c} + {cs}*1 + 64], tmm1
         tilestored [{d} + {cs}*1], tmm2
         tilestored [{d} + {cs}*1 + 64], tmm3"
    };
    (2) => {
        "tilestored [{c} + {cs}*1], tmm0
         tilestored [{c} + {cs}*1 + 64], tmm1"
    };
}
/// Adds the product of the activations at offset `$x` and the weights at offset `$w`; each tile is
/// loaded just before its first use.
macro_rules! products {
    ($dot:literal, 4, $x:literal, $w:literal) => {
        concat!(
            "\ntileloaddt1 tmm4, [{x} + {xs}*1 + ",
            $x,
            "]",
            "\ntileloadd tmm6, [{w} + {ws}*1 + ",
            $w,
            "]",
            "\n",
            $dot,
            " tmm0, tmm4, tmm6",
            "\ntileloadd tmm7, [{w} + {ws}*1 + ",
            $w,
            " + 64]",
            "\n",
            $dot,
            " tmm1, tmm4, tmm7",
            "\ntileloaddt1 tmm5, [{x} + {xs}*1 + ",
            $x,
            " + 1024]",
            "\n",
            $dot,
            " tmm2, tmm5, tmm6",
            "\n",
            $dot,
            " tmm3, tmm5, tmm7\n"
        )
    };
    ($dot:literal, 2, $x:literal, $w:literal) => {
        concat!(
            "\ntileloaddt1 tmm4, [{x} + {xs}*1 + ",
            $x,
            "]",
            "\ntileloadd tmm6, [{w} + {ws}*1 + ",
            $w,
            "]",
            "\n",
            $dot,
            " tmm0, tmm4, tmm6",
            "\ntileloadd tmm7, [{w} + {ws}*1 + ",
            $w,
            " + 64]",
            "\n",
            $dot,
            " tmm1, tmm4, tmm7\n"
        )
    };
}
/// Like [`products`], with the weights that are already loaded.
macro_rules! more_products {
    ($dot:literal, 4, $x:literal) => {
        concat!(
            "\ntileloaddt1 tmm4, [{x} + {xs}*1 + ",
            $x,
            "]",
            "\n",
            $dot,
            " tmm0, tmm4, tmm6",
            "\n",
            $dot,
            " tmm1, tmm4, tmm7",
            "\ntileloaddt1 tmm5, [{x} + {xs}*1 + ",
            $x,
            " + 1024]",
            "\n",
            $dot,
            " tmm2, tmm5, tmm6",
            "\n",
            $dot,
            " tmm3, tmm5, tmm7\n"
        )
    };
    ($dot:literal, 2, $x:literal) => {
        concat!(
            "\ntileloaddt1 tmm4, [{x} + {xs}*1 + ",
            $x,
            "]",
            "\n",
            $dot,
            " tmm0, tmm4, tmm6",
            "\n",
            $dot,
            " tmm1, tmm4, tmm7\n"
        )
    };
}
/// Runs `$body` for every line.
macro_rules! in_turn {
    ($body:expr) => {
        concat!("2:", $body, "add {x}, {xl}\nadd {w}, {wl}\ndec {lines}\njnz 2b\n")
    };
}
/// Runs over all lines of a full row panel, with one product per line, software-pipelined: a tile
/// is loaded for the next line as soon as its last product of this line has been issued. The 16
/// no-ops between products are there because a benchmark of this loop alone measured 227 to 271
/// cycles per line with them instead of 335 to 380 next to a busy neighbour, and 94 instead of 101
/// without one; the reason is unknown.
macro_rules! pipelined {
    ($dot:literal) => {
        concat!(
            "tileloaddt1 tmm4, [{x} + {xs}*1]
             tileloadd tmm6, [{w} + {ws}*1]
             tileloadd tmm7, [{w} + {ws}*1 + 64]
             tileloaddt1 tmm5, [{x} + {xs}*1 + 1024]
             dec {lines}
             jz 3f
             2:
             add {x}, {xl}
             add {w}, {wl}\n",
            $dot,
            " tmm0, tmm4, tmm6\n.rept 16\nnop\n.endr\n",
            $dot,
            " tmm1, tmm4, tmm7\n.rept 16\nnop\n.endr\n",
            "tileloaddt1 tmm4, [{x} + {xs}*1]\n",
            $dot,
            " tmm2, tmm5, tmm6\n.rept 16\nnop\n.endr\n",
            "tileloadd tmm6, [{w} + {ws}*1]\n",
            $dot,
            " tmm3, tmm5, tmm7\n",
            "tileloadd tmm7, [{w} + {ws}*1 + 64]
             tileloaddt1 tmm5, [{x} + {xs}*1 + 1024]
             dec {lines}
             jnz 2b
             3:\n",
            $dot,
            " tmm0, tmm4, tmm6\n",
            $dot,
            " tmm1, tmm4, tmm7\n",
            $dot,
            " tmm2, tmm5, tmm6\n",
            $dot,
            " tmm3, tmm5, tmm7\n"
        )
    };
}
macro_rules! block {
    (($begin:expr, $lines:expr, $end:expr), $pointers:ident, $line_bytes:expr $(, $lower:tt)?) => {
        asm!(
            $begin,
            $lines,
            $end,
            x = inout(reg) $pointers.x => _,
            w = inout(reg) $pointers.weights => _,
            lines = inout(reg) $pointers.lines => _,
            c = in(reg) $pointers.sums,
            $(d = in(reg) $pointers.$lower,)?
            cs = in(reg) $pointers.row,
            xs = in(reg) 64usize,
            ws = in(reg) 128usize,
            xl = const $line_bytes.x,
            wl = const $line_bytes.weights,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// Bytes of one line of both operands, of all parts.
#[derive(Clone, Copy)]
struct LineBytes {
    x: usize,
    weights: usize,
}

/// The operands of a tile.
struct Pointers {
    x: *const u8,
    weights: *const u8,
    sums: *mut f32,
    /// Sums of row 16.
    lower: *mut f32,
    /// Bytes between rows of sums.
    row: usize,
    lines: usize,
}

impl Pointers {
    /// Checks that the whole tile lies within its slices; `None` if there are no lines.
    #[inline(always)]
    fn new(x: &[u8], weights: &[u8], line_bytes: LineBytes, sums: Sums<'_>) -> Option<Self> {
        let lines = weights.len() / line_bytes.weights;
        check_tile(x, weights, lines, line_bytes.x, &sums, PANEL_ROWS);
        let upper = sums.values.as_mut_ptr();
        let lower = upper.wrapping_add(PANEL_ROWS / 2 * sums.row);
        let (x, weights, row) = (x.as_ptr(), weights.as_ptr(), 4 * sums.row);
        (lines > 0).then_some(Self { x, weights, sums: upper, lower, row, lines })
    }
}

macro_rules! product {
    (
        $(#[$doc:meta])*
        $name:ident, $arithmetic:ident, ($parts:literal, $w_line:expr), $lines:ident
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name(pub Configured);

        impl MicroKernel for $name {
            const ARITHMETIC: Arithmetic = Arithmetic::$arithmetic;
            const ROWS: usize = PANEL_ROWS;

            #[inline(always)]
            fn tile(self, height: usize, x: &[u8], weights: &[u8], sums: Sums<'_>, _fresh: bool) {
                let first = sums.first;
                const BYTES: LineBytes = LineBytes { x: $parts * X_LINE, weights: $w_line };
                let Some(at) = Pointers::new(x, weights, BYTES, sums) else { return };
                // SAFETY: `Pointers::new` checked that all reads and writes lie within the slices;
                // the field proves that the tiles are configured.
                unsafe {
                    match (height > PANEL_ROWS / 2, first) {
                        (true, true) => {
                            block!((zero_sums!(4), $lines!(4), store_sums!(4)), at, BYTES, lower);
                        }
                        (true, false) => {
                            block!((load_sums!(4), $lines!(4), store_sums!(4)), at, BYTES, lower);
                        }
                        (false, true) => {
                            block!((zero_sums!(2), $lines!(2), store_sums!(2)), at, BYTES);
                        }
                        (false, false) => {
                            block!((load_sums!(2), $lines!(2), store_sums!(2)), at, BYTES);
                        }
                    }
                }
            }
        }
    };
}

macro_rules! bf16_lines {
    (4) => {
        pipelined!("tdpbf16ps")
    };
    (2) => {
        in_turn!(products!("tdpbf16ps", 2, "0", "0"))
    };
}
macro_rules! int8_lines {
    (4) => {
        pipelined!("tdpbusd")
    };
    (2) => {
        in_turn!(products!("tdpbusd", 2, "0", "0"))
    };
}
macro_rules! split_f32_lines {
    ($tiles:tt) => {
        in_turn!(concat!(
            products!("tdpbf16ps", $tiles, "0", "2048"),
            products!("tdpbf16ps", $tiles, "2048", "0"),
            more_products!("tdpbf16ps", $tiles, "0")
        ))
    };
}
macro_rules! split_bf16_lines {
    ($tiles:tt) => {
        in_turn!(concat!(
            products!("tdpbf16ps", $tiles, "4096", "0"),
            more_products!("tdpbf16ps", $tiles, "2048"),
            more_products!("tdpbf16ps", $tiles, "0")
        ))
    };
}

product!(
    /// bfloat16 times bfloat16.
    TileBf16, Bf16, (1, W_LINE), bf16_lines
);
product!(
    /// u8 times i8; the sums are exact.
    TileInt8, Int8, (1, W_LINE), int8_lines
);
product!(
    /// float32 times float32, each split into two bfloat16 parts; smaller products are added first.
    TileSplitF32, SplitF32, (2, 2 * W_LINE), split_f32_lines
);
product!(
    /// float32 split into three bfloat16 parts, times bfloat16; smaller products are added first.
    TileSplitBf16, SplitBf16, (3, W_LINE), split_bf16_lines
);
