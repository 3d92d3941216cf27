//! The epilogue of a GEMM, applied before sums are stored: bias, activation, gate, residual.

use super::micro_kernel::{PANEL_COLUMNS, PackedFormat};
use super::pack_lhs::{Bf16Parts, F32Pieces, PanelWriter, Pieces};
use crate::cpu::buffer::shared::SharedMut;
use crate::cpu::isa::math;
use crate::cpu::isa::simd::{LANES, Simd, SimdOp};
use crate::spec::Activation;

/// The activation of 16 elements.
#[inline(always)]
pub fn activated<S: Simd>(s: S, activation: Activation, x: S::V) -> S::V {
    match activation {
        Activation::Gelu => Gelu::apply(s, x),
        Activation::GeluTanh => GeluTanh::apply(s, x),
        Activation::Silu => Silu::apply(s, x),
        Activation::Relu => Relu::apply(s, x),
        Activation::Tanh => Tanh::apply(s, x),
    }
}

/// An [`Activation`] as a type, so that loops are monomorphized for it.
trait Elementwise {
    fn apply<S: Simd>(s: S, x: S::V) -> S::V;
}

macro_rules! elementwise {
    ($($name:ident: |$s:ident, $x:ident| $value:expr;)*) => {$(
        struct $name;
        impl Elementwise for $name {
            #[inline(always)]
            fn apply<S: Simd>($s: S, $x: S::V) -> S::V {
                $value
            }
        }
    )*};
}

elementwise! {
    RoughGelu: |s, x| math::rough_gelu_erf(s, x);
    RoughGeluTanh: |s, x| math::rough_gelu_tanh(s, x);
    RoughSilu: |s, x| math::rough_silu(s, x);
    Gelu: |s, x| math::gelu_erf(s, x);
    GeluTanh: |s, x| math::gelu_tanh(s, x);
    Silu: |s, x| math::silu(s, x);
    Relu: |s, x| s.select_lt(x, s.splat(0.0), s.splat(0.0), x);
    Tanh: |s, x| math::tanh(s, x);
}

/// What is applied to the sums.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// `act(sum + bias) + residual`, each part optional.
    Plain {
        /// `[columns]`
        bias: Option<&'a [f32]>,
        /// Applied after the bias.
        activation: Option<Activation>,
        /// `[rows, columns]`
        residual: Option<&'a [f32]>,
    },
    /// Columns alternate between 16 gates and 16 values; the output is `act(gate) * value`, half as
    /// wide as the weights.
    Gated {
        /// Applied to the gates.
        activation: Activation,
    },
}

impl Epilogue<'_> {
    /// Columns of the output.
    pub fn width(&self, columns: usize) -> usize {
        match self {
            Self::Plain { .. } => columns,
            Self::Gated { .. } => columns / 2,
        }
    }

    /// # Panics
    /// If a part has the wrong length.
    pub fn check(&self, rows: usize, columns: usize) {
        match self {
            Self::Plain { bias, residual, .. } => {
                assert!(bias.is_none_or(|bias| bias.len() == columns), "one bias a column");
                let residual_fits = residual.is_none_or(|part| part.len() == rows * columns);
                assert!(residual_fits, "the residual has the output's shape");
            }
            Self::Gated { .. } => {
                assert_eq!(columns % (2 * LANES), 0, "gates and values come in groups of 16");
            }
        }
    }
}

/// Where finished tiles are stored.
pub(in crate::cpu) enum Target<'a> {
    /// Rows of float32.
    Rows(SharedMut<'a, f32>),
    /// Packed for the next GEMM.
    Packed(PanelWriter<'a>),
}

/// The sums of one tile (a row panel times a panel), `PANEL_COLUMNS` per row, finished in place.
pub(in crate::cpu) struct Tile<'a> {
    pub sums: &'a mut [f32],
    /// First row of the matrix.
    pub row: usize,
    /// First column of the weights.
    pub column: usize,
}

/// Applies the epilogue to a tile and stores it. Epilogue and target are matched here, once per
/// tile: the loops below are monomorphized for each case.
pub(in crate::cpu) struct Finish<'a> {
    pub epilogue: &'a Epilogue<'a>,
    pub tile: Tile<'a>,
    /// Columns of the weights.
    pub columns: usize,
    pub out: &'a Target<'a>,
}

impl SimdOp for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { epilogue, tile: Tile { sums, row, column }, columns, out } = self;
        // Precision that bfloat16 discards is not worth computing.
        let rough = matches!(out, Target::Packed(writer) if writer.format() == PackedFormat::Bf16);
        match *epilogue {
            Epilogue::Gated { activation } => {
                activate(s, activation, rough, Before::Gates, sums);
                let at = TilePosition { row, column: column / 2, columns: columns / 2 };
                store::<S, 1, false, false>(s, Added::default(), sums, at, out);
            }
            Epilogue::Plain { bias, activation, residual } if columns - column < PANEL_COLUMNS => {
                let (bias, residual) = (bias.unwrap_or_default(), residual.unwrap_or_default());
                let at = TilePosition { row, column, columns };
                finish_last_panel(s, Added { bias, residual }, activation, sums, at, out);
            }
            Epilogue::Plain { bias, activation, residual } => {
                let at = TilePosition { row, column, columns };
                let mut bias = bias.map(|bias| &bias[column..column + PANEL_COLUMNS]);
                if let Some(activation) = activation {
                    activate(s, activation, rough, Before::Bias(bias.take()), sums);
                }
                let (with_bias, with_residual) = (bias.is_some(), residual.is_some());
                let (bias, residual) = (bias.unwrap_or_default(), residual.unwrap_or_default());
                let added = Added { bias, residual };
                match (with_bias, with_residual) {
                    (false, false) => store::<S, 2, false, false>(s, added, sums, at, out),
                    (true, false) => store::<S, 2, true, false>(s, added, sums, at, out),
                    (false, true) => store::<S, 2, false, true>(s, added, sums, at, out),
                    (true, true) => store::<S, 2, true, true>(s, added, sums, at, out),
                }
            }
        }
    }
}

/// What is combined with an activation.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// A bias, `[PANEL_COLUMNS]`, is added first.
    Bias(Option<&'a [f32]>),
    /// The first half of each row is activated and multiplied by the second.
    Gates,
}

/// Activates sums in place, with rough approximations if they are rounded to bfloat16 next.
#[inline(always)]
fn activate<S: Simd>(
    s: S,
    activation: Activation,
    rough: bool,
    before: Before<'_>,
    sums: &mut [f32],
) {
    match (activation, rough) {
        (Activation::Gelu, true) => activate_by::<S, RoughGelu>(s, before, sums),
        (Activation::GeluTanh, true) => activate_by::<S, RoughGeluTanh>(s, before, sums),
        (Activation::Silu, true) => activate_by::<S, RoughSilu>(s, before, sums),
        (Activation::Gelu, false) => activate_by::<S, Gelu>(s, before, sums),
        (Activation::GeluTanh, false) => activate_by::<S, GeluTanh>(s, before, sums),
        (Activation::Silu, false) => activate_by::<S, Silu>(s, before, sums),
        (Activation::Relu, _) => activate_by::<S, Relu>(s, before, sums),
        (Activation::Tanh, _) => activate_by::<S, Tanh>(s, before, sums),
    }
}

#[inline(always)]
fn activate_by<S: Simd, A: Elementwise>(s: S, before: Before<'_>, sums: &mut [f32]) {
    match before {
        Before::Gates => {
            for sums in sums.chunks_exact_mut(PANEL_COLUMNS) {
                let (gates, values) = sums.split_at_mut(LANES);
                let gate = A::apply(s, s.load_part(gates));
                s.store_part(gates, s.mul(gate, s.load_part(values)));
            }
        }
        Before::Bias(Some(bias)) => {
            let bias = [s.load_part(&bias[..LANES]), s.load_part(&bias[LANES..])];
            for sums in sums.chunks_exact_mut(PANEL_COLUMNS) {
                let (left, right) = sums.split_at_mut(LANES);
                s.store_part(left, A::apply(s, s.add(s.load_part(left), bias[0])));
                s.store_part(right, A::apply(s, s.add(s.load_part(right), bias[1])));
            }
        }
        Before::Bias(None) => {
            for sums in sums.chunks_exact_mut(LANES) {
                s.store_part(sums, A::apply(s, s.load_part(sums)));
            }
        }
    }
}

/// What is added to sums before they are stored; empty if nothing is.
#[derive(Clone, Copy, Default)]
struct Added<'a> {
    /// `[PANEL_COLUMNS]` for a full panel, else `[columns]`.
    bias: &'a [f32],
    /// `[rows, columns]`
    residual: &'a [f32],
}

/// Position of a tile in the output.
#[derive(Clone, Copy)]
struct TilePosition {
    row: usize,
    column: usize,
    /// Columns of the output.
    columns: usize,
}

impl Added<'_> {
    /// The first `N` vectors of a row of sums, plus bias and residual, which is read from `at` on.
    #[inline(always)]
    fn to<S: Simd, const N: usize, const BIAS: bool, const RESIDUAL: bool>(
        self,
        s: S,
        sums: &[f32],
        at: usize,
    ) -> [S::V; N] {
        let mut values = [s.splat(0.0); N];
        let residual = if RESIDUAL { &self.residual[at..at + N * LANES] } else { &[] };
        for (half, value) in values.iter_mut().enumerate() {
            let part = half * LANES..(half + 1) * LANES;
            *value = s.load_part(&sums[part.clone()]);
            if BIAS {
                *value = s.add(*value, s.load_part(&self.bias[part.clone()]));
            }
            if RESIDUAL {
                *value = s.add(*value, s.load_part(&residual[part]));
            }
        }
        values
    }
}

/// Stores the first `N` vectors of each row of sums.
#[inline(always)]
fn store<S: Simd, const N: usize, const BIAS: bool, const RESIDUAL: bool>(
    s: S,
    added: Added<'_>,
    sums: &[f32],
    at: TilePosition,
    out: &Target<'_>,
) {
    match out {
        Target::Rows(out) => {
            let mut start = at.row * at.columns + at.column;
            for sums in sums.chunks_exact(PANEL_COLUMNS) {
                let values = added.to::<S, N, BIAS, RESIDUAL>(s, sums, start);
                // SAFETY: a task writes only its own rows and panels.
                let to = unsafe { out.part(start, N * LANES) };
                for (to, value) in to.chunks_exact_mut(LANES).zip(values) {
                    s.store_part(to, value);
                }
                start += at.columns;
            }
        }
        Target::Packed(writer) => match writer.format() {
            PackedFormat::F32 => {
                store_packed::<S, F32Pieces, N, BIAS, RESIDUAL>(s, added, sums, at, writer)
            }
            PackedFormat::Bf16 => {
                store_packed::<S, Bf16Parts<1>, N, BIAS, RESIDUAL>(s, added, sums, at, writer)
            }
            PackedFormat::Split2 => {
                store_packed::<S, Bf16Parts<2>, N, BIAS, RESIDUAL>(s, added, sums, at, writer)
            }
            PackedFormat::Split3 => {
                store_packed::<S, Bf16Parts<3>, N, BIAS, RESIDUAL>(s, added, sums, at, writer)
            }
            PackedFormat::U8 => unreachable!("bytes need the whole row"),
        },
    }
}

#[inline(always)]
fn store_packed<S: Simd, P: Pieces, const N: usize, const BIAS: bool, const RESIDUAL: bool>(
    s: S,
    added: Added<'_>,
    sums: &[f32],
    at: TilePosition,
    writer: &PanelWriter<'_>,
) {
    let starts = writer.starts_from(at.row);
    let mut residual = at.row * at.columns + at.column;
    for (sums, start) in sums.chunks_exact(PANEL_COLUMNS).zip(starts) {
        let values = added.to::<S, N, BIAS, RESIDUAL>(s, sums, residual);
        // SAFETY: a task writes only its own rows and panels.
        unsafe { writer.pieces::<S, P, N>(s, start, at.column, values) };
        residual += at.columns;
    }
}

/// Finishes the last panel, which has fewer than 32 columns: rare, so each vector decides
/// everything at run time.
#[inline(always)]
fn finish_last_panel<S: Simd>(
    s: S,
    added: Added<'_>,
    activation: Option<Activation>,
    sums: &[f32],
    at: TilePosition,
    out: &Target<'_>,
) {
    for (row, sums) in (at.row..).zip(sums.chunks_exact(PANEL_COLUMNS)) {
        for (half, sums) in sums.chunks_exact(LANES).enumerate() {
            let first = at.columns.min(at.column + half * LANES);
            let part = first..at.columns.min(first + LANES);
            if part.is_empty() {
                continue;
            }
            let mut value = s.load_part(sums);
            if !added.bias.is_empty() {
                value = s.add(value, s.load_part(&added.bias[part.clone()]));
            }
            if let Some(activation) = activation {
                value = activated(s, activation, value);
            }
            let start = row * at.columns + first;
            if !added.residual.is_empty() {
                let residual = &added.residual[start..start + part.len()];
                value = s.add(value, s.load_part(residual));
            }
            // SAFETY: a task writes only its own rows and panels.
            unsafe {
                match out {
                    Target::Rows(out) => s.store_part(out.part(start, part.len()), value),
                    Target::Packed(writer) => {
                        writer.piece(s, writer.start_of(row), first, value);
                    }
                }
            }
        }
    }
}
