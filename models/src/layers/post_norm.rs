//! The post-norm encoder of BERT and its relatives: bidirectional attention and an MLP, each added
//! to its input and normalised (Devlin et al., 2018; transformers `modeling_bert.py`).
//!
//! Must not know: any one family.

use proxima_kernels::KernelError;
use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::linear_input::LinearInput;
use proxima_kernels::ops::replay::{Recordings, next_layer};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Heads, Mask, Scoring};

use super::{LayerNorm, Loader, RelativeBias, TableSizes, TokenEmbeddings};
use crate::batch::{Encoder, HiddenStates, InParts, Part, RaggedBatch};
use crate::checkpoint::CheckpointError;

/// Sizes of an encoder.
#[derive(Debug, Clone, Copy)]
pub struct PostNormConfig {
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Size of the MLP's intermediate layer.
    pub mlp: usize,
    /// Epsilon of all norms.
    pub eps: f32,
    /// Activation of the MLP.
    pub activation: Activation,
}

impl PostNormConfig {
    /// Equal heads of a hidden state.
    ///
    /// # Errors
    /// A message, if sizes are 0 or do not divide.
    pub fn heads(width: usize, heads: usize) -> Result<Heads, String> {
        if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
            return Err(format!("a hidden state of {width} does not divide into {heads} heads"));
        }
        Ok(Heads { heads, kv_heads: heads, size: width / heads })
    }
}

/// Names of an encoder's tensors, without `.weight` and `.bias`.
#[derive(Debug, Clone, Copy)]
pub struct PostNormNames {
    /// The norm of the embeddings.
    pub embedding_norm: &'static str,
    /// The list of layers, which the names below follow after a number.
    pub layers: &'static str,
    /// Queries, keys and values.
    pub qkv: [&'static str; 3],
    /// The output of attention.
    pub output: &'static str,
    /// The norm after attention.
    pub attention_norm: &'static str,
    /// The MLP's first layer.
    pub up: &'static str,
    /// The MLP's second layer.
    pub down: &'static str,
    /// The norm after the MLP.
    pub mlp_norm: &'static str,
}

/// An encoder with its embedding tables.
#[derive(Debug)]
pub struct PostNorm {
    embeddings: TokenEmbeddings,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: Heads,
    activation: Activation,
    bias: Option<RelativeBias>,
    /// CUDA graphs of short batches.
    recordings: Recordings,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    mlp_norm: LayerNorm,
}

impl PostNorm {
    /// Loads the encoder under the loader's prefix.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(
        loader: &Loader<'_>,
        tables: &TableSizes,
        config: &PostNormConfig,
        names: &PostNormNames,
    ) -> Result<Self, CheckpointError> {
        let layer = |layer| {
            let loader = loader.at(&format!("{}.{layer}.", names.layers));
            Layer::load(&loader, tables.width, config, names)
        };
        Ok(Self {
            embeddings: TokenEmbeddings::load(&loader.at("embeddings."), tables)?,
            norm: LayerNorm::load(loader, names.embedding_norm, tables.width, config.eps, true)?,
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            heads: config.heads,
            activation: config.activation,
            bias: None,
            recordings: Recordings::default(),
        })
    }

    /// The encoder with a bias of its attention, the same in all layers.
    #[must_use]
    pub fn with_bias(self, bias: RelativeBias) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Normalises embedded tokens and runs the layers on them.
    fn layers(
        &self,
        batch: &RaggedBatch,
        embedded: Rows,
        pause: &dyn Fn(),
    ) -> Result<Rows, KernelError> {
        let Some(first) = self.layers.first() else {
            return Rows::of(&self.norm.forward(&embedded.tensor()?)?);
        };
        let longest = batch.segments().iter().map(|segment| segment.rows.len()).max();
        let bias = self.bias.as_ref().map(|bias| bias.of(longest.unwrap_or(0))).transpose()?;
        let scoring = Scoring { mask: Mask::Full, bias: bias.as_deref() };
        let mut parts = InParts::new(batch, embedded, first.weight_bytes(), |_, embedded| {
            let (hidden, input) = self.norm.forward_for(&embedded, first.qkv.input_layout())?;
            Ok(State { hidden, input })
        })?;
        for (place, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(place + 1).unwrap_or(layer);
            next_layer();
            parts.step(pause, |part, state| self.forward(part, state, (layer, next), scoring))?;
        }
        Rows::joined(parts.finish().into_iter().map(|state| state.hidden).collect())
    }

    /// Takes a part of a batch through `layer`, with the result also in the input layout of `next`.
    fn forward(
        &self,
        part: &Part,
        State { hidden, input }: State,
        (layer, next): (&Layer, &Layer),
        scoring: Scoring<'_>,
    ) -> Result<State, KernelError> {
        let qkv = layer.qkv.of(&input, None, None)?;
        let rows = (part.segments(), &[][..]);
        let mixed = attention_for(&qkv, self.heads, rows, scoring, &layer.output)?;
        let summed = layer.output.of(&mixed, None, Some(&hidden))?;
        let (hidden, input) = layer.attention_norm.forward_for(&summed, layer.up.input_layout())?;
        let wide = layer.up.apply_for(&input, Some(self.activation), layer.down.input_layout())?;
        let summed = layer.down.of(&wide, None, Some(&hidden))?;
        let (hidden, input) = layer.mlp_norm.forward_for(&summed, next.qkv.input_layout())?;
        Ok(State { hidden, input })
    }
}

impl Encoder for PostNorm {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let embedded = self.embeddings.of(batch)?;
        let hidden = match batch.layout() {
            Some(layout) => self.recordings.run(&layout, embedded, pause, |embedded, pause| {
                self.layers(batch, embedded, pause)
            })?,
            None => self.layers(batch, embedded, pause)?,
        };
        HiddenStates::new(&hidden, batch)
    }
}

/// Hidden states between two layers.
struct State {
    hidden: Rows,
    /// The same, in the next layer's input layout.
    input: LinearInput,
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        width: usize,
        config: &PostNormConfig,
        names: &PostNormNames,
    ) -> Result<Self, CheckpointError> {
        let &PostNormConfig { mlp, eps, .. } = config;
        let norm = |name: &str| LayerNorm::load(loader, name, width, eps, true);
        Ok(Self {
            qkv: loader.linear(&names.qkv.map(|name| (name, width)), width, true)?,
            output: loader.linear(&[(names.output, width)], width, true)?,
            attention_norm: norm(names.attention_norm)?,
            up: loader.linear(&[(names.up, mlp)], width, true)?,
            down: loader.linear(&[(names.down, width)], mlp, true)?,
            mlp_norm: norm(names.mlp_norm)?,
        })
    }

    fn weight_bytes(&self) -> usize {
        [&self.qkv, &self.output, &self.up, &self.down].map(Linear::weight_bytes).iter().sum()
    }
}
