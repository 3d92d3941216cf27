//! Qwen3-VL: the Qwen3 decoder over tokens and over images encoded by a vision tower, with M-RoPE
//! positions (time, height, width), and features of the tower's middle layers added after the
//! decoder's first ones (DeepStack) (Qwen3-VL technical report, 2025; transformers
//! `modeling_qwen3_vl.py`).
//!
//! Must not know: templates, pooling, devices, file formats.

mod keys;
mod patches;
mod vision;

use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::Precision;
use proxima_kernels::{Device, KernelError};
use serde::Deserialize;
use serde_json::Value;

use super::{Family, LanguageModel, Network, qwen3};
use crate::batch::{Encoder, HiddenStates, RaggedBatch, Visual};
use crate::checkpoint::{Checkpoint, CheckpointError, read_json_if_there};
use crate::conventions::Conventions;
use crate::layers::{Decoder, Loader, Rotary, Rotation};
use crate::readout::Pooling;
use vision::{VisionOutput, VisionTower};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "qwen3_vl",
        is: None,
        architectures: &["Qwen3VLForConditionalGeneration", "Qwen3VLModel", "Qwen3VLForEmbedding"],
        keys: keys::CONFIG,
        conventions: Conventions::of("Qwen2"),
        files: keys::FILES,
        pooling: |_| Some(Pooling::Last),
        load,
        score: |checkpoint, _, _| {
            Err(checkpoint.config_error("no classification head is known for this architecture"))
        },
        words: None,
        language_model: Some(LanguageModel {
            embedders: &[],
            list_rankers: &[],
            tables: TABLES,
            heads: &["lm_head.weight", "language_model.lm_head.weight"],
            tied: false,
        }),
    }
}

/// Possible prefixes of its text tensors.
const TABLES: &[&str] = &["model.language_model.", "language_model.model.", "language_model."];

#[derive(Debug, Deserialize)]
struct Config {
    text_config: Value,
    #[serde(default)]
    vision_config: vision::Config,
}

/// What Qwen3-VL adds to Qwen3's object of rotary settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sections {
    mrope_section: Option<[usize; 3]>,
    mrope_interleaved: Option<bool>,
}

impl Sections {
    fn of(text: &qwen3::Config) -> Result<Self, String> {
        let (name, object) = text.rotary();
        // Null counts as absent.
        let sections = Option::<Self>::deserialize(object);
        sections.map(Option::unwrap_or_default).map_err(|problem| format!("{name}: {problem}"))
    }

    /// The axis (time, height or width) of each rotary frequency: frequency 3i+1 is height and 3i+2
    /// width while i is below their section; all others are time (interleaved M-RoPE).
    fn streams(&self, frequencies: usize) -> Result<Vec<(usize, usize)>, String> {
        let section = self.mrope_section.unwrap_or([24, 20, 20]);
        if self.mrope_interleaved == Some(false) {
            return Err("rotary sections that are not interleaved are not supported".into());
        }
        if section.iter().sum::<usize>() != frequencies {
            return Err(format!("mrope_section {section:?} is not of {frequencies} frequencies"));
        }
        let stream = |at: usize| match at % 3 {
            0 => 0,
            stream if at < 3 * section[stream] => stream,
            _ => 0,
        };
        Ok((0..frequencies).map(|at| (stream(at), at)).collect())
    }
}

struct Qwen3Vl {
    embedding: Embedding,
    decoder: Decoder,
    rotary: Rotary,
    /// Index of the position, and of the frequency, of each rotary angle.
    streams: Vec<(usize, usize)>,
    tower: VisionTower,
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let error = |problem: String| checkpoint.config_error(problem);
    let dir = checkpoint.transformer_dir();
    let images = dir.join("preprocessor_config.json");
    let processor: Option<Value> = read_json_if_there(&dir.join("processor_config.json"))?;
    let in_processor = processor.is_some_and(|processor| processor["image_processor"].is_object());
    if !images.is_file() && !in_processor {
        return Err(CheckpointError::new(
            images,
            "the file is missing; it defines how images are scaled",
        ));
    }
    let text = qwen3::Config::deserialize(&config.text_config)
        .map_err(|problem| error(format!("text_config: {problem}")))?;
    let sections = Sections::of(&text).map_err(error)?;
    let (sizes, theta) = (text.sizes().map_err(error)?, text.theta(500_000.0).map_err(error)?);
    let weights = checkpoint.weights();
    let prefix = weights.prefix(TABLES, "embed_tokens.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let table = loader.stored("embed_tokens.weight", &[text.vocab_size, text.hidden_size])?;
    let failed = |error| loader.failed(error);
    let prefix = weights.prefix(&["model.visual.", "visual."], "pos_embed.weight")?;
    let tower = Loader::new(weights, prefix, precision, device);
    config.vision_config.check(&sizes).map_err(error)?;
    let network = Qwen3Vl {
        decoder: Decoder::load(&loader, &sizes)?,
        embedding: Embedding::new(table, device).map_err(failed)?,
        rotary: Rotary::new(theta, sizes.heads.size, device).map_err(failed)?,
        streams: sections.streams(sizes.heads.size / 2).map_err(error)?,
        tower: VisionTower::load(&tower, &config.vision_config)?,
    };
    Ok(Network {
        encoder: Box::new(network),
        width: text.hidden_size,
        positions: text.max_position_embeddings.unwrap_or(128_000),
        vocabulary: text.vocab_size,
        token_types: 0,
        rotary_positions: true,
    })
}

impl Qwen3Vl {
    /// Hidden states of text tokens and of images encoded by the tower.
    fn embed(&self, batch: &RaggedBatch, vision: &VisionOutput) -> Result<Rows, KernelError> {
        // Rows of images are looked up too, and then overwritten.
        let ids = batch.tokens().iter().map(|id| if Visual::stands_for(*id) { 0 } else { *id });
        let mut hidden = self.embedding.rows_of(&ids.collect::<Vec<u32>>())?;
        vision.put(0, batch.visuals(), &mut hidden)?;
        Ok(hidden)
    }
}

impl Encoder for Qwen3Vl {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let Some(mrope_positions) = batch.mrope_positions() else {
            let positions = batch.positions();
            let longest = positions.iter().max().map_or(0, |position| *position as usize + 1);
            let tables = self.rotary.tables(longest)?;
            let hidden = self.embedding.rows_of(batch.tokens())?;
            let rotation = Rotation { positions: &positions, tables: &tables };
            return self.decoder.run(batch, hidden, rotation, &|_, _| Ok(()), pause);
        };
        let longest =
            mrope_positions.iter().flatten().max().map_or(0, |position| *position as usize + 1);
        let tables = self.rotary.tables(longest)?.gathered(mrope_positions, &self.streams)?;
        let positions: Vec<u32> = (0..mrope_positions.len() as u32).collect();
        let vision = self.tower.encode(batch.visuals(), pause)?;
        let hidden = self.embed(batch, &vision)?;
        let deep_stack = |layer: usize, hidden: &mut Rows| {
            if layer + 1 < vision.levels() {
                vision.put(layer + 1, batch.visuals(), hidden)?;
            }
            Ok(())
        };
        let rotation = Rotation { positions: &positions, tables: &tables };
        self.decoder.run(batch, hidden, rotation, &deep_stack, pause)
    }

    fn is_causal(&self) -> bool {
        self.decoder.is_causal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_interleaved_as_published() {
        let sections = Sections { mrope_section: Some([3, 2, 2]), mrope_interleaved: None };
        let streams = sections.streams(7).expect("sections of seven");
        let streams: Vec<usize> = streams.into_iter().map(|(stream, _)| stream).collect();
        assert_eq!(streams, [0, 1, 2, 0, 1, 2, 0]);
        assert!(sections.streams(8).is_err());
    }

    #[test]
    fn sections_stand_in_either_object() {
        for (text, interleaved) in [
            (r#"{"rope_scaling": null, "rope_parameters": {"mrope_interleaved": false}}"#, false),
            (r#"{"rope_scaling": {}, "rope_parameters": {"mrope_interleaved": false}}"#, false),
            (r#"{"rope_scaling": {"mrope_interleaved": false}}"#, false),
            (
                r#"{"rope_scaling": {"type": "default", "rope_type": "default"},
                    "rope_parameters": {"mrope_interleaved": false}}"#,
                true,
            ),
            (r#"{"rope_parameters": {"mrope_section": 1}}"#, false),
        ] {
            let config: qwen3::Config = serde_json::from_str(text).expect("read");
            let streams = Sections::of(&config).and_then(|sections| sections.streams(64));
            assert_eq!(streams.is_ok(), interleaved, "{text}");
        }
    }
}
