//! Attention on every instruction set, against its definition.

mod support;

use half::bf16;
use proxima_kernels::cpu::Isa;
use proxima_kernels::cpu::attention::{Attention, Bias, Layout, TokenTerms, attention};
use proxima_kernels::cpu::gemm::micro_kernel::Arithmetic;
use proxima_kernels::spec::{Ancestor, Heads, Mask, OffsetBuckets, Segment, segments_of};
use proxima_kernels::thread_pool::limited;
use support::isas;

/// Fixed pseudo-random values in -2..2.
fn random_values(count: usize, seed: u32) -> Vec<f32> {
    support::random_values(count, seed).iter().map(|value| 2.0 * value).collect()
}

/// Every instruction set, with each arithmetic that it has for attention.
fn ways() -> Vec<(Isa, Arithmetic)> {
    let rounded = isas().into_iter().filter(|isa| isa.multiplies_bf16());
    let exact = isas().into_iter().map(|isa| (isa, Arithmetic::F32));
    exact.chain(rounded.map(|isa| (isa, Arithmetic::Bf16))).collect()
}

/// What is done with scores.
#[derive(Debug, Clone, Copy)]
struct Rule<'a> {
    mask: Mask,
    bias: Option<Bias<'a>>,
}

impl From<Mask> for Rule<'_> {
    fn from(mask: Mask) -> Self {
        Self { mask, bias: None }
    }
}

/// A random bias for sequences of up to `reach + 1` rows.
fn bias_table(heads: Heads, reach: usize) -> Vec<f32> {
    random_values(heads.heads * (2 * reach + 1), 9)
}

/// A bucket for each near offset, and for pairs of farther ones; more distant ones in the last.
fn buckets(reach: usize) -> OffsetBuckets {
    let offsets = -(reach as i64)..=reach as i64;
    let signed = offsets.map(|offset| match offset.abs() {
        0..16 => offset,
        distance => offset.signum() * (16 + (distance - 16) / 2).min(19),
    });
    OffsetBuckets::new(signed.map(|bucket| (bucket + 20) as u32).collect(), 40)
}

/// Random terms of a bias by token: of queries and keys, for each head.
fn token_terms(heads: Heads, rows: usize) -> Vec<[Vec<f32>; 2]> {
    let terms = |seed: usize| random_values(rows * 40, seed as u32);
    (0..heads.heads).map(|head| [terms(20 + head), terms(40 + head)]).collect()
}

fn terms_of(terms: &[[Vec<f32>; 2]]) -> Vec<TokenTerms<'_>> {
    terms.iter().map(|[queries, keys]| TokenTerms { queries, keys }).collect()
}

fn run<'a>(
    (isa, arithmetic): (Isa, Arithmetic),
    qkv: &[f32],
    heads: Heads,
    offsets: &[usize],
    rule: impl Into<Rule<'a>>,
) -> Vec<f32> {
    let Rule { mask, bias } = rule.into();
    let tokens = offsets[offsets.len() - 1];
    let mut out = vec![f32::NAN; tokens * heads.heads * heads.size];
    let layout = Layout { segments: &segments_of(offsets), cached: &[] };
    attention(isa, Attention { qkv, heads, layout, mask, bias, arithmetic }, &mut out);
    out
}

/// The definition, in double precision.
fn reference(qkv: &[f32], heads: Heads, offsets: &[usize], rule: Rule<'_>) -> Vec<f64> {
    let Rule { mask, bias } = rule;
    let size = heads.size;
    let part = |token: usize, head: usize| {
        let at = token * heads.row() + head * size;
        qkv[at..at + size].iter().map(|value| f64::from(*value))
    };
    let mut out = Vec::new();
    for bounds in offsets.windows(2) {
        let length = bounds[1] - bounds[0];
        for query in 0..length {
            for head in 0..heads.heads {
                let shared = head / (heads.heads / heads.kv_heads);
                let keys = mask.keys(query, length);
                let score = |key: usize| {
                    let query = part(bounds[0] + query, head);
                    let key = part(bounds[0] + key, heads.heads + shared);
                    let terms = if matches!(bias, Some(Bias::Tokens { .. })) { 3 } else { 1 };
                    query.zip(key).map(|(q, k)| q * k).sum::<f64>() / ((terms * size) as f64).sqrt()
                };
                let added = |key: usize| match bias {
                    None => 0.0,
                    Some(Bias::Table { table, reach }) => {
                        f64::from(table[head * (2 * reach + 1) + reach + key - query])
                    }
                    Some(Bias::Tokens { terms, buckets }) => {
                        let of = |terms: &[f32], row: usize, other: usize| {
                            let bucket = buckets.of_offsets()[buckets.reach() + other - row];
                            let at = (bounds[0] + row) * buckets.count() + bucket as usize;
                            f64::from(terms[at])
                        };
                        of(terms[head].queries, query, key) + of(terms[head].keys, key, query)
                    }
                };
                let weights: Vec<f64> =
                    keys.clone().map(|key| (score(key) + added(key)).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut sums = vec![0.0; size];
                for (key, weight) in keys.zip(&weights) {
                    let value = part(bounds[0] + key, heads.heads + heads.kv_heads + shared);
                    sums.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value);
                }
                out.extend(sums.iter().map(|sum| sum / total));
            }
        }
    }
    out
}

#[test]
fn every_isa_is_close_to_the_definition_and_all_have_the_same_bits_in_float32() {
    let lengths = [1, 2, 11, 12, 13, 31, 32, 33, 97, 255, 256, 257, 300];
    let mut offsets = vec![0];
    lengths.iter().for_each(|length| offsets.push(offsets[offsets.len() - 1] + length));
    for (heads, kv_heads, size) in [(4, 2, 16), (2, 2, 32), (2, 1, 64), (1, 1, 80), (2, 1, 128)] {
        let heads = Heads { heads, kv_heads, size };
        let qkv = random_values(offsets[offsets.len() - 1] * heads.row(), size as u32);
        let rounded: Vec<f32> = qkv.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
        // The longest sequence needs 299.
        let tables = [299, 400].map(|reach| (reach, bias_table(heads, reach)));
        let [near, far] =
            tables.each_ref().map(|(reach, table)| Bias::Table { table, reach: *reach });
        let (buckets, values) = (buckets(310), token_terms(heads, offsets[offsets.len() - 1]));
        let terms = terms_of(&values);
        let tokens = Bias::Tokens { terms: &terms, buckets: &buckets };
        let cases = [
            (Mask::Full, None),
            (Mask::Causal, None),
            (Mask::Window(5), None),
            (Mask::Window(64), None),
            (Mask::CausalWindow(5), None),
            (Mask::Full, Some(near)),
            (Mask::CausalWindow(64), Some(far)),
            (Mask::Full, Some(tokens)),
            (Mask::Window(64), Some(tokens)),
        ];
        for (mask, bias) in cases {
            let rule = Rule { mask, bias };
            let expected = reference(&qkv, heads, &offsets, rule);
            let of_rounded = reference(&rounded, heads, &offsets, rule);
            let mut bits: Option<Vec<f32>> = None;
            for way in ways() {
                let got = run(way, &qkv, heads, &offsets, rule);
                let by_token = matches!(bias, Some(Bias::Tokens { .. }));
                let what = (way.0.name(), way.1, heads, mask, bias.is_some(), by_token);
                // For values up to 2: weights are rounded to 8 bits, and scaled queries are rounded
                // again.
                let (expected, allowed) = match way.1 {
                    Arithmetic::F32 => (&expected, 1e-5),
                    _ => (&of_rounded, 0.04),
                };
                let worst =
                    got.iter().zip(expected).map(|(got, wanted)| (f64::from(*got) - wanted).abs());
                let worst = worst.fold(0.0, f64::max);
                assert!(worst < allowed, "{what:?}: {worst}");
                if way.1 == Arithmetic::F32 {
                    assert!(bits.get_or_insert_with(|| got.clone()) == &got, "{what:?}");
                }
            }
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_among_others_on_any_number_of_threads() {
    let heads = Heads { heads: 4, kv_heads: 2, size: 32 };
    let offsets = [0, 40, 41, 340, 352];
    let qkv = random_values(352 * heads.row(), 1);
    let table = bias_table(heads, 299);
    let biased = Rule { mask: Mask::Full, bias: Some(Bias::Table { table: &table, reach: 299 }) };
    let masks = [Mask::Full, Mask::Causal, Mask::Window(16), Mask::CausalWindow(16)];
    let masks = masks.map(Rule::from);
    for isa in ways() {
        for mask in masks.into_iter().chain([biased]) {
            let all = run(isa, &qkv, heads, &offsets, mask);
            for threads in [1, 3, 16] {
                let again = limited(threads, || run(isa, &qkv, heads, &offsets, mask));
                assert!(again == all, "{:?} on {threads} threads", mask.mask);
            }
            for bounds in offsets.windows(2) {
                let rows = &qkv[bounds[0] * heads.row()..bounds[1] * heads.row()];
                let alone = run(isa, rows, heads, &[0, bounds[1] - bounds[0]], mask);
                let width = heads.heads * heads.size;
                assert!(alone == all[bounds[0] * width..bounds[1] * width], "{:?}", mask.mask);
            }
        }
    }
}

#[test]
fn a_causal_prefix_has_the_same_bits_whatever_follows() {
    let heads = Heads { heads: 2, kv_heads: 1, size: 64 };
    let qkv = random_values(600 * heads.row(), 2);
    for isa in ways() {
        let long = run(isa, &qkv, heads, &[0, 600], Mask::Causal);
        for length in [1, 17, 96, 255, 256, 257, 500] {
            let short = run(isa, &qkv[..length * heads.row()], heads, &[0, length], Mask::Causal);
            assert!(short == long[..short.len()], "{} at {length}", isa.0.name());
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_sequence() {
    let heads = Heads { heads: 2, kv_heads: 1, size: 32 };
    let clean = random_values(90 * heads.row(), 3);
    let offsets = [0, 30, 60, 90];
    for bad in [f32::NAN, f32::INFINITY] {
        let mut qkv = clean.clone();
        qkv[45 * heads.row() + 2 * heads.size] = bad;
        for isa in ways() {
            let (got, expected) = (
                run(isa, &qkv, heads, &offsets, Mask::Full),
                run(isa, &clean, heads, &offsets, Mask::Full),
            );
            let third = got.len() / 3;
            assert!(got[..third] == expected[..third] && got[2 * third..] == expected[2 * third..]);
            assert!(got[third..2 * third].iter().any(|value| value.is_nan()), "{}", isa.0.name());
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let heads = Heads { heads: 1, kv_heads: 1, size: 16 };
    let qkv: Vec<f32> =
        random_values(300 * heads.row(), 4).iter().map(|value| value * 100.0).collect();
    for isa in ways() {
        let got = run(isa, &qkv, heads, &[0, 300], Mask::Full);
        assert!(got.iter().all(|value| value.abs() <= 200.1), "{}", isa.0.name());
    }
}

#[test]
fn shared_and_cached_prefixes_give_the_same_bits_as_whole_sequences() {
    let heads = Heads { heads: 4, kv_heads: 2, size: 32 };
    let (row, width) = (heads.row(), heads.heads * heads.size);
    let (cached, trunk, leaves) = (37, 230, [1usize, 40, 300]);
    let prefix = random_values((cached + trunk) * row, 5);
    let (keys, batch) = prefix.split_at(cached * row);
    let keys: Vec<f32> =
        keys.chunks_exact(row).flat_map(|row| row[width..].iter().copied()).collect();
    let (mut qkv, mut segments) = (batch.to_vec(), Vec::new());
    segments.push(Segment { rows: 0..trunk, start: cached, ancestors: vec![Ancestor::Cached(0)] });
    for (seed, leaf) in leaves.iter().enumerate() {
        let first = qkv.len() / row;
        qkv.extend(random_values(leaf * row, 6 + seed as u32));
        let ancestors = vec![Ancestor::Cached(0), Ancestor::Batch(0..trunk)];
        segments.push(Segment { rows: first..first + leaf, start: cached + trunk, ancestors });
    }
    let reach = cached + trunk + 300;
    let table = bias_table(heads, reach);
    let masks = [Mask::Causal, Mask::CausalWindow(50)];
    for (isa, mask) in ways().into_iter().flat_map(|isa| masks.map(|mask| (isa, mask))) {
        let mut shared = vec![f32::NAN; qkv.len() / row * width];
        let layout = Layout { segments: &segments, cached: &[&keys] };
        let bias = Some(Bias::Table { table: &table, reach });
        let arithmetic = isa.1;
        attention(
            isa.0,
            Attention { qkv: &qkv, heads, layout, mask, bias, arithmetic },
            &mut shared,
        );
        for segment in &segments[1..] {
            let own = &qkv[segment.rows.start * row..segment.rows.end * row];
            let whole = [prefix.as_slice(), own].concat();
            let rule = Rule { mask, bias };
            let alone = run(isa, &whole, heads, &[0, whole.len() / row], rule);
            assert!(alone[cached * width..(cached + trunk) * width] == shared[..trunk * width]);
            let own = &shared[segment.rows.start * width..segment.rows.end * width];
            assert!(alone[(cached + trunk) * width..] == *own, "{}", isa.0.name());
        }
    }
}
