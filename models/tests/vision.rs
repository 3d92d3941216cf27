//! Vectors and scores of texts, images and videos equal those of transformers in float32:
//! `tests/golden/tiny-qwen3-vl*.json`, made by `tests/reference/make_vision.py`.

mod support;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proxima_models::batch::Visual;
use proxima_models::media::{MediaError, MediaOptions, TakeFrame, VideoInfo, VideoReader};
use proxima_models::readout::finish;
use proxima_models::{
    Content, Input, InputError, Item, LoadOptions, MediaFile, Model, Precision, Prefix, Prepare,
    Prompt, RaggedBatch, Sequence, Video, VideoSource,
};
use serde_json::Value;
use support::{golden_model_in, golden_model_with, serves};

/// Tokens that the limit of the reranker's golden cases does not count.
const LAST: usize = 5;
/// Placeholder ids for image and video pixels in the reference's tokens.
const PADS: [u64; 2] = [151_655, 151_656];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn file(name: &Value) -> Arc<MediaFile> {
    let path = golden("pictures").join(name.as_str().expect("a name"));
    Arc::new(MediaFile::new(std::fs::read(path).expect("a picture")))
}

/// A value or a list, as a list.
fn list(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    }
}

fn item(value: &Value) -> Item {
    let texts =
        list(&value["text"]).iter().map(|text| text.as_str().expect("a text").into()).collect();
    let images = list(&value["image"]).iter().map(file).collect();
    let videos = match value["video"].get(0) {
        Some(Value::String(_)) => vec![value["video"].clone()],
        _ => list(&value["video"]),
    };
    let video = |frames: &Value| {
        let frames = list(frames).iter().map(file).collect();
        Arc::new(Video { source: VideoSource::Frames(frames), fps: None, frames_max: None })
    };
    let instruction = value["instruction"].as_str().map(str::to_owned);
    let item = Item::new(texts, images, videos.iter().map(video).collect());
    Item { instruction, ..item }
}

fn prepared(model: &Model, case: &Value) -> Result<Sequence, InputError> {
    let limit = case["tokens_max"].as_u64().map(|limit| limit as usize);
    if case["item"].is_object() {
        let how = Prepare { tokens_max: limit, ..Prepare::default() };
        return model.recipe.prepare(&Input::from(item(&case["item"])), &how);
    }
    let content = |name: &str| Content::from(item(&case[name]));
    let prompt = case["instruction"].as_str().map(|text| Prompt::Instruction(text.to_owned()));
    let tokens_max = limit.map(|limit| limit + LAST);
    let how = Prepare { prompt: prompt.unwrap_or_default(), tokens_max, ..Prepare::default() };
    let input = Input::Pair { query: content("query"), document: content("document") };
    model.recipe.prepare(&input, &how)
}

/// A case without its results, as its name.
fn name(case: &Value) -> String {
    let mut case = case.clone();
    if let Some(case) = case.as_object_mut() {
        case.retain(|key, _| !matches!(key.as_str(), "tokens" | "vector" | "positions"));
    }
    let name = case.to_string();
    name.chars().take(300).collect()
}

/// Checks the ids of a case; pixels must be where the reference has placeholders.
fn check_tokens(case: &Value, sequence: &Sequence) {
    let wanted: Vec<u64> =
        case["tokens"].as_array().expect("ids").iter().filter_map(Value::as_u64).collect();
    assert_eq!(sequence.tokens.len(), wanted.len(), "tokens of {}", name(case));
    for (id, wanted) in sequence.tokens.iter().zip(&wanted) {
        if Visual::stands_for(*id) {
            assert!(PADS.contains(wanted), "pixels in place of {wanted} of {}", name(case));
        } else {
            assert_eq!(u64::from(*id), *wanted, "an id of {}", name(case));
        }
    }
    if let Some(positions) = case["positions"].as_array().filter(|_| !sequence.visuals.is_empty()) {
        let batch = RaggedBatch::new([sequence]);
        let found = batch.mrope_positions().expect("there are images");
        for (axis, wanted) in positions.iter().enumerate() {
            let got: Vec<Value> = found.iter().map(|position| position[axis].into()).collect();
            assert_eq!(Value::from(got), *wanted, "positions {axis} of {}", name(case));
        }
    }
}

fn expected(case: &Value) -> Vec<f32> {
    support::floats(case["vector"].as_str().expect("a vector"))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn vectors(model: &Model, batch: &RaggedBatch) -> Vec<Vec<f32>> {
    let hidden = model.encoder.encode(batch).expect("encoded");
    let readout = model.readouts.embedding.as_ref().expect("an embedder");
    readout.embed(&hidden).expect("vectors")
}

fn logits(model: &Model, batch: &RaggedBatch) -> Vec<f32> {
    let hidden = model.encoder.encode(batch).expect("encoded");
    let readout = model.readouts.score.as_ref().expect("a reranker");
    readout.logits(&hidden).expect("logits").iter().map(|logits| logits[0]).collect()
}

/// Whether a case has a picture whose decoder may round differently from the reference's.
fn is_lossy(case: &Value) -> bool {
    name(case).contains(".webp")
}

#[test]
fn embeddings_equal_the_reference() {
    for (precision, least, lossy) in
        [(Precision::Float32, 0.99999, 0.9995), (Precision::Bfloat16, 0.998, 0.998)]
    {
        let (model, cases) = golden_model_in("tiny-qwen3-vl", precision);
        for case in &cases {
            let sequence = match prepared(&model, case) {
                Err(error) => {
                    let refused = matches!(error, InputError::MediaTooLong { .. });
                    assert!(refused && case["error"] == true, "{error}: {}", name(case));
                    continue;
                }
                Ok(sequence) => sequence,
            };
            assert!(case["error"].is_null(), "the reference refuses {}", name(case));
            check_tokens(case, &sequence);
            let vector = &vectors(&model, &RaggedBatch::new([&sequence]))[0];
            let cosine = cosine(&finish(vector, None, true), &expected(case));
            let least = if is_lossy(case) { lossy } else { least };
            assert!(cosine >= least, "{precision:?}: {cosine} of {}", name(case));
        }
    }
}

/// Reads files as black videos, counting inputs and files.
#[derive(Debug, Default)]
struct Counting {
    inputs: AtomicUsize,
    files: Arc<AtomicUsize>,
}

impl Counting {
    fn counts(&self) -> (usize, usize) {
        (self.inputs.load(Ordering::SeqCst), self.files.load(Ordering::SeqCst))
    }
}

impl VideoReader for Counting {
    fn of_input(&self) -> Option<Arc<dyn VideoReader>> {
        self.inputs.fetch_add(1, Ordering::SeqCst);
        Some(Arc::new(Self { files: self.files.clone(), ..Self::default() }))
    }

    fn probe(&self, file: &[u8]) -> Result<VideoInfo, MediaError> {
        assert_eq!(self.inputs.load(Ordering::SeqCst), 0, "this is not of an input");
        self.files.fetch_add(1, Ordering::SeqCst);
        Ok(VideoInfo { frames: 2, fps: 1.0, width: 64, height: 64 + file.len() })
    }

    fn read(
        &self,
        _: &[u8],
        info: &VideoInfo,
        frames: &[usize],
        take: &mut TakeFrame<'_>,
    ) -> Result<(), MediaError> {
        let black = vec![0; info.width * info.height * 3];
        frames.iter().try_for_each(|frame| take(*frame, &black))
    }
}

#[test]
fn the_videos_of_an_input_share_a_reader_and_are_given_up_with_their_caller() {
    let counting = Arc::new(Counting::default());
    let media = MediaOptions { reader: Some(counting.clone()), ..MediaOptions::default() };
    let options = LoadOptions { media, ..LoadOptions::default() };
    for name in ["tiny-qwen3-vl", "tiny-qwen3-vl-reranker"] {
        let (model, _) = golden_model_with(name, &options);
        let film = |length| {
            let source = VideoSource::File(Arc::new(MediaFile::new(vec![0; length])));
            Arc::new(Video { source, fps: None, frames_max: None })
        };
        let item = Arc::new(Item::new(vec![], vec![], vec![film(1), film(2), film(3)]));
        let input = match model.readouts.embedding {
            Some(_) => Input::Content(Content::Item(item.clone())),
            None => Input::Pair { query: "a".into(), document: Content::Item(item.clone()) },
        };
        for (parts, expected) in [(2, Some(InputError::Abandoned)), (3, None)] {
            let before = counting.counts();
            let asked = Cell::new(0);
            let gone = || asked.replace(asked.get() + 1) == parts;
            let result = model.recipe.prepare_until(&input, &Prepare::default(), &gone);
            assert_eq!(result.err(), expected, "{name}");
            // By then, the first two are cached.
            let files = if parts == 2 { 2 } else { 1 };
            let after = counting.counts();
            assert_eq!(after, (before.0 + 1, before.1 + files), "{name}");
        }
    }
}

#[test]
fn scores_equal_the_reference() {
    let (model, cases) = golden_model_in("tiny-qwen3-vl-reranker", Precision::Float32);
    for case in &cases {
        let sequence = match prepared(&model, case) {
            // The reference exceeds its limit here and drops the whole question.
            Err(InputError::MediaTooLong { tokens, limit }) => {
                let n_tokens = case["n_tokens"].as_u64().expect("a number") as usize;
                assert!(n_tokens > limit && tokens > limit, "{}", name(case));
                continue;
            }
            other => other.unwrap_or_else(|error| panic!("{error}: {}", name(case))),
        };
        check_tokens(case, &sequence);
        let logit = f64::from(logits(&model, &RaggedBatch::new([&sequence]))[0]);
        let wanted = case["logit"].as_f64().expect("a logit");
        // Different rounding in the decoder affects a random network more than a trained one.
        let (most, score_most) = if is_lossy(case) { (5e-2, 1e-2) } else { (2e-3, 5e-4) };
        assert!((logit - wanted).abs() <= most, "{logit}, not {wanted}, of {}", name(case));
        let score = |logit: f64| 1.0 / (1.0 + (-logit).exp());
        let off = (score(logit) - case["score"].as_f64().expect("a score")).abs();
        assert!(off <= score_most, "{off} off: {}", name(case));
    }
}

#[test]
fn images_have_the_same_bits_in_any_batch_and_behind_any_shared_prefix() {
    for (file, precision) in [
        ("tiny-qwen3-vl", Precision::Float32),
        ("tiny-qwen3-vl", Precision::Bfloat16),
        ("tiny-qwen3-vl", Precision::Int8),
        ("tiny-qwen3-vl-reranker", Precision::Bfloat16),
    ] {
        if !serves(precision) {
            continue;
        }
        let (model, cases) = golden_model_in(file, precision);
        let run = |batch: &RaggedBatch| match model.readouts.embedding {
            Some(_) => vectors(&model, batch),
            None => logits(&model, batch).into_iter().map(|logit| vec![logit]).collect(),
        };
        let all = cases.iter().step_by(3);
        let sequences: Vec<Sequence> = all.filter_map(|case| prepared(&model, case).ok()).collect();
        let alone: Vec<Vec<f32>> =
            sequences.iter().map(|sequence| run(&RaggedBatch::new([sequence])).remove(0)).collect();
        assert_eq!(run(&RaggedBatch::new(&sequences)), alone, "{file} {precision:?}: together");
        let (sequences, alone): (Vec<_>, Vec<_>) = sequences.iter().zip(&alone).rev().unzip();
        let sharing = RaggedBatch::sharing(&sequences, &[], |_| None);
        let rows: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        assert!(sharing.tokens().len() < rows, "{file}: nothing is shared");
        let shared = run(&sharing);
        assert!(shared.iter().eq(alone.iter().copied()), "{file} {precision:?}: sharing");
        // The next batch continues from what this batch caches, images included.
        let cached = model.encoder.encode(&sharing).expect("encoded").prefixes;
        let find = |tokens: &[u32]| {
            let fits = |prefix: &&Arc<Prefix>| {
                prefix.tokens().len() < tokens.len() && tokens.starts_with(prefix.tokens())
            };
            cached.iter().filter(fits).max_by_key(|prefix| prefix.tokens().len()).cloned()
        };
        let continued = RaggedBatch::sharing(&sequences, &[], find);
        let images = |batch: &RaggedBatch| batch.visuals().len();
        let reuses = images(&continued) < images(&sharing) || model.readouts.embedding.is_none();
        assert!(reuses, "{file}: no image is cached");
        assert!(run(&continued).iter().eq(alone), "{file} {precision:?}: behind what was cached");
    }
}
