//! BERT: a post-norm bidirectional encoder with learned positions (Devlin et al., 2018;
//! transformers `modeling_bert.py`). Embedders such as MiniLM, BGE, E5, GTE-en and PEG, and
//! cross-encoders.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::linear_input::LinearInput;
use proxima_kernels::ops::replay::{Recordings, next_layer};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Heads, Mask, Precision};
use proxima_kernels::{Device, KernelError};
use serde::Deserialize;

use super::{Family, Network};
use crate::batch::{Encoder, HiddenStates, InParts, Part, RaggedBatch};
use crate::checkpoint::keys::Key;
use crate::checkpoint::keys::Rule::{NoEffect, Used};
use crate::checkpoint::keys::config::{
    EPS, HEADS, LAYERS, MLP, POSITIONS, TYPES, VOCABULARY, WIDTH,
};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::layers::{LayerNorm, Loader, activation};
use crate::readout::{HeadLayer, Pooling, ScoreReadout, WordsHead};

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: "bert",
        architectures: &[
            "BertModel",
            "BertForMaskedLM",
            "BertForPreTraining",
            "BertForSequenceClassification",
        ],
        keys: KEYS,
        files: &[],
        // Both CLS and mean pooling are common, so a checkpoint that sets neither is refused.
        pooling: |_| None,
        load: |checkpoint, precision, device| load(checkpoint, precision, device, &Style::BERT),
        score: |checkpoint, width, device| {
            // Pooler (tanh of the first token) and classifier.
            let labels = checkpoint.labels()?;
            let weights = checkpoint.weights();
            let prefix = weights.prefix(Style::BERT.prefixes, "pooler.dense.weight")?;
            let loader = Loader::new(weights, "", Precision::Float32, device);
            let pooler = format!("{prefix}pooler.dense");
            let layers = vec![
                HeadLayer::load(&loader, &pooler, (width, width), true)?
                    .with_activation(Activation::Tanh),
                HeadLayer::load(&loader, "classifier", (width, labels.len()), true)?,
            ];
            Ok(ScoreReadout::new(Pooling::Cls, layers, labels))
        },
        language_model: None,
        words: Some(|checkpoint, network, device| {
            let names = WordsNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                bias: "cls.predictions.bias",
                decoder: "cls.predictions.decoder.weight",
                words: "bert.embeddings.word_embeddings.weight",
            };
            words(checkpoint, network, device, &names)
        }),
    }
}

const TENSORFLOW: &str = "TensorFlow's first files had it; transformers does not read it";

/// Keys of `config.json` of BERT and RoBERTa.
pub(super) const KEYS: &[Key] = &[
    ("vocab_size", VOCABULARY),
    ("hidden_size", WIDTH),
    ("num_hidden_layers", LAYERS),
    ("num_attention_heads", HEADS),
    ("intermediate_size", MLP),
    ("max_position_embeddings", POSITIONS),
    ("type_vocab_size", TYPES),
    ("layer_norm_eps", EPS),
    ("hidden_act", Used),
    ("position_embedding_type", Used),
    // In RoBERTa, positions start after this id.
    ("pad_token_id", Used),
    ("directionality", NoEffect(TENSORFLOW)),
    ("pooler_fc_size", NoEffect(TENSORFLOW)),
    ("pooler_num_attention_heads", NoEffect(TENSORFLOW)),
    ("pooler_num_fc_layers", NoEffect(TENSORFLOW)),
    ("pooler_size_per_head", NoEffect(TENSORFLOW)),
    ("pooler_type", NoEffect(TENSORFLOW)),
];

/// Names of the tensors of a vocabulary head.
pub(super) struct WordsNames {
    pub dense: &'static str,
    pub norm: &'static str,
    pub bias: &'static str,
    /// The last layer's weights; if they are not stored, those of the word embeddings (`words`).
    pub decoder: &'static str,
    pub words: &'static str,
}

/// The vocabulary head: dense layer, activation and norm, then one logit per word.
pub(super) fn words(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
    names: &WordsNames,
) -> Result<WordsHead, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let (_, activation) = config.check().map_err(|problem| checkpoint.config_error(problem))?;
    let (width, vocabulary) = (network.width, network.vocabulary);
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let norm = LayerNorm::load(&loader, names.norm, width, config.layer_norm_eps, true)?;
    let dense = HeadLayer::load(&loader, names.dense, (width, width), true)?
        .with_activation(activation)
        .with_norm(norm);
    let decoder = decoder_or_words(checkpoint, &loader, names.decoder, names.words)?;
    // transformers loads the bias under either name and prefers the decoder's own. If the head is
    // not tied, it ignores the other name and leaves the bias at zero.
    let own_bias = names.decoder.replace(".weight", ".bias");
    let tied = checkpoint.said("tie_word_embeddings") != Some(false);
    let bias = if tied && !loader.has(&own_bias) { names.bias } else { own_bias.as_str() };
    let last = loader.linear_of((decoder, bias), (width, vocabulary))?;
    Ok(WordsHead { layers: vec![dense], last })
}

/// The name of the weights of a head's last layer: its own or, if tied, the word embeddings'.
///
/// # Errors
/// A checkpoint without such a tensor whose config says that it is not tied.
pub(super) fn decoder_or_words<'a>(
    checkpoint: &Checkpoint,
    loader: &Loader<'_>,
    decoder: &'a str,
    words: &'a str,
) -> Result<&'a str, CheckpointError> {
    if loader.has(decoder) {
        return Ok(decoder);
    }
    if checkpoint.said("tie_word_embeddings") == Some(false) {
        let problem = format!(
            "the config says that the head over words is not tied to the embeddings, and there is \
             no {decoder}"
        );
        return Err(CheckpointError::new(checkpoint.dir(), problem));
    }
    Ok(words)
}

/// How networks of this architecture differ.
pub(super) struct Style {
    /// Possible prefixes of tensor names.
    pub prefixes: &'static [&'static str],
    /// Whether positions start after the padding token's id, as in RoBERTa.
    pub positions_after_padding: bool,
}

impl Style {
    const BERT: Self = Self { prefixes: &["", "bert."], positions_after_padding: false };
}

/// Defaults are those of transformers' `BertConfig`, which RoBERTa shares except for the vocabulary
/// size.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    vocab_size: Option<usize>,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    position_embedding_type: Option<String>,
    pad_token_id: Option<i64>,
    is_decoder: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            vocab_size: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".into(),
            position_embedding_type: None,
            pad_token_id: None,
            is_decoder: false,
        }
    }
}

impl Config {
    fn check(&self) -> Result<(Heads, Activation), String> {
        if let Some(kind) = &self.position_embedding_type
            && kind != "absolute"
        {
            return Err(format!(
                "position_embedding_type {kind:?} is not served; served: absolute"
            ));
        }
        if self.is_decoder {
            return Err("a BERT decoder (is_decoder) is not served".into());
        }
        if self.intermediate_size == 0 {
            return Err("intermediate_size must be at least 1".into());
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if heads == 0 || hidden == 0 || !hidden.is_multiple_of(heads) || self.type_vocab_size == 0 {
            return Err(format!("hidden_size {hidden} does not divide into {heads} heads"));
        }
        let activation = activation(&self.hidden_act)
            .ok_or_else(|| format!("hidden_act {:?} is not served", self.hidden_act))?;
        Ok((Heads { heads, kv_heads: heads, size: hidden / heads }, activation))
    }
}

struct Bert {
    words: Embedding,
    positions: Embedding,
    /// If there is only one type, second texts have it too.
    token_types: Embedding,
    /// Row of the first position in the table.
    first_position: u32,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: Heads,
    activation: Activation,
    /// CUDA graphs of short batches.
    recordings: Recordings,
}

struct Layer {
    qkv: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

/// Loads a network of this architecture.
pub(super) fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
    style: &Style,
) -> Result<Network, CheckpointError> {
    let config: Config = checkpoint.config()?;
    let (heads, activation) = config.check().map_err(|problem| checkpoint.config_error(problem))?;
    let weights = checkpoint.weights();
    let prefix = weights.prefix(style.prefixes, "embeddings.word_embeddings.weight")?;
    let loader = Loader::new(weights, prefix, precision, device);
    let (width, embeddings) = (config.hidden_size, loader.at("embeddings."));
    let failed = |error| loader.failed(error);
    let table = |name: &str, rows: usize| {
        Embedding::new(embeddings.stored(name, &[rows, width])?, device).map_err(failed)
    };
    let padding = match config.pad_token_id {
        None if !checkpoint.is_null("pad_token_id") => Some(1),
        id => id.and_then(|id| u32::try_from(id).ok()),
    };
    let first_position = match (style.positions_after_padding, padding) {
        (false, _) => 0,
        (true, Some(padding)) => padding as usize + 1,
        (true, None) => {
            let problem = "pad_token_id names no token, but positions start after it; name the \
                           padding token's id (1 as published)";
            return Err(checkpoint.config_error(problem));
        }
    };
    let vocabulary = config.vocab_size.unwrap_or(match checkpoint.model_type() {
        "roberta" => 50_265,
        _ => 30_522,
    });
    let positions = config.max_position_embeddings.saturating_sub(first_position);
    let layers = (0..config.num_hidden_layers)
        .map(|layer| Layer::load(&loader.at(&format!("encoder.layer.{layer}.")), &config));
    let network = Bert {
        words: table("word_embeddings.weight", vocabulary)?,
        positions: table("position_embeddings.weight", config.max_position_embeddings)?,
        token_types: table("token_type_embeddings.weight", config.type_vocab_size)?,
        first_position: first_position as u32,
        norm: LayerNorm::load(&embeddings, "LayerNorm", width, config.layer_norm_eps, true)?,
        layers: layers.collect::<Result<_, _>>()?,
        heads,
        activation,
        recordings: Recordings::default(),
    };
    let token_types = config.type_vocab_size;
    Ok(Network {
        encoder: Box::new(network),
        width,
        positions,
        rotary_positions: false,
        vocabulary,
        token_types,
    })
}

impl Layer {
    fn load(loader: &Loader<'_>, config: &Config) -> Result<Self, CheckpointError> {
        let (hidden, mlp, eps) =
            (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let parts = [("query", hidden), ("key", hidden), ("value", hidden)];
        let norm = |name: &str| LayerNorm::load(loader, name, hidden, eps, true);
        Ok(Self {
            qkv: loader.at("attention.self.").linear(&parts, hidden, true)?,
            output: loader.linear(&[("attention.output.dense", hidden)], hidden, true)?,
            attention_norm: norm("attention.output.LayerNorm")?,
            up: loader.linear(&[("intermediate.dense", mlp)], hidden, true)?,
            down: loader.linear(&[("output.dense", hidden)], mlp, true)?,
            mlp_norm: norm("output.LayerNorm")?,
        })
    }

    fn weight_bytes(&self) -> usize {
        [&self.qkv, &self.output, &self.up, &self.down].map(Linear::weight_bytes).iter().sum()
    }
}

impl Bert {
    fn embed(&self, batch: &RaggedBatch) -> Result<Rows, KernelError> {
        let words = self.words.rows_of(batch.tokens())?;
        let types = match self.token_types.rows() {
            1 => vec![0; batch.tokens().len()],
            _ => batch.token_types(),
        };
        let typed = self.token_types.add_rows_of(&types, words)?;
        self.positions.add_rows_of(&self.positions_of(batch), typed)
    }

    /// Rows of the position table. In RoBERTa, a padding token within a text gets the row of its id
    /// and is not counted.
    fn positions_of(&self, batch: &RaggedBatch) -> Vec<u32> {
        let Some(padding) = self.first_position.checked_sub(1) else { return batch.positions() };
        let mut positions = Vec::with_capacity(batch.tokens().len());
        for segment in batch.segments() {
            let mut last = padding;
            for token in &batch.tokens()[segment.rows.clone()] {
                let counted = *token != padding;
                last += u32::from(counted);
                positions.push(if counted { last } else { padding });
            }
        }
        positions
    }
}

/// Hidden states between two layers.
struct State {
    hidden: Rows,
    /// The same, in the next layer's input layout.
    input: LinearInput,
}

impl Bert {
    /// Takes a part of a batch through `layer`, with the result also in the input layout of `next`.
    fn forward(
        &self,
        part: &Part,
        State { hidden, input }: State,
        (layer, next): (&Layer, &Layer),
    ) -> Result<State, KernelError> {
        let qkv = layer.qkv.of(&input, None, None)?;
        let rows = (part.segments(), &[][..]);
        let mixed = attention_for(&qkv, self.heads, rows, Mask::Full, &layer.output)?;
        let summed = layer.output.of(&mixed, None, Some(&hidden))?;
        let (hidden, input) = layer.attention_norm.forward_for(&summed, layer.up.input_layout())?;
        let wide = layer.up.apply_for(&input, Some(self.activation), layer.down.input_layout())?;
        let summed = layer.down.of(&wide, None, Some(&hidden))?;
        let (hidden, input) = layer.mlp_norm.forward_for(&summed, next.qkv.input_layout())?;
        Ok(State { hidden, input })
    }
}

impl Bert {
    /// Runs the layers on embedded tokens.
    fn layers(
        &self,
        batch: &RaggedBatch,
        embedded: Rows,
        pause: &dyn Fn(),
    ) -> Result<Rows, KernelError> {
        let Some(first) = self.layers.first() else {
            return Rows::of(&self.norm.forward(&embedded.tensor()?)?);
        };
        let mut parts = InParts::new(batch, embedded, first.weight_bytes(), |_, embedded| {
            let (hidden, input) = self.norm.forward_for(&embedded, first.qkv.input_layout())?;
            Ok(State { hidden, input })
        })?;
        for (place, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(place + 1).unwrap_or(layer);
            next_layer();
            parts.step(pause, |part, state| self.forward(part, state, (layer, next)))?;
        }
        Rows::joined(parts.finish().into_iter().map(|state| state.hidden).collect())
    }
}

impl Encoder for Bert {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let embedded = self.embed(batch)?;
        let hidden = match batch.layout() {
            Some(layout) => self.recordings.run(&layout, embedded, pause, |embedded, pause| {
                self.layers(batch, embedded, pause)
            })?,
            None => self.layers(batch, embedded, pause)?,
        };
        HiddenStates::new(&hidden, batch)
    }
}
