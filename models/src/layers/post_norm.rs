//! The post-norm encoder of BERT and its relatives: bidirectional attention and an MLP, each added
//! to its input and normalised (Devlin et al., 2018; transformers `modeling_bert.py`). Later ones
//! have rotary positions and a gated MLP (transformers `modeling_nomic_bert.py`).
//!
//! Must not know: any one family.

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::linear::{GatedLinear, Linear};
use proxima_kernels::ops::linear_input::{InputLayout, LinearInput};
use proxima_kernels::ops::replay::{Recordings, next_layer};
use proxima_kernels::ops::rotary::rotary;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Heads, Mask, PositionBias, ScoreBias, Scoring};
use proxima_kernels::{KernelError, Tensor};

use super::{
    Experts, ExpertsConfig, ExpertsNames, LayerNorm, LinearPart, Loader, RelativeBias, Rotary,
    RotaryRule, Rotation, TableSizes, TokenBiases, TokenEmbeddings,
};
use crate::batch::{BatchPart, Encoder, HiddenStates, InParts, RaggedBatch};
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
    /// Activation of the MLP, or of its gate.
    pub activation: Activation,
    /// Which linear layers have a bias; a gated MLP has none before its last layer.
    pub biases: Biases,
    /// Rotary positions.
    pub rotary: Option<RotaryRule>,
    /// Layers with experts instead of an MLP.
    pub experts: Option<ExpertsConfig>,
}

/// Which linear layers of an encoder have a bias.
#[derive(Debug, Clone, Copy)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The output of attention.
    pub output: bool,
    /// The MLP's second layer.
    pub down: bool,
}

impl Biases {
    /// All of them, as in BERT.
    pub const ALL: Self = Self { qkv: true, output: true, down: true };
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
    /// The list of layers; the names below are within one of them.
    pub layers: &'static str,
    /// Queries, keys and values.
    pub qkv: QkvNames,
    /// The output of attention.
    pub output: &'static str,
    /// Norms of queries and of keys, of all heads together.
    pub query_key_norms: Option<[&'static str; 2]>,
    /// A norm after attention, to which its input is added once more.
    pub inner_norm: Option<&'static str>,
    /// The norm after attention.
    pub attention_norm: &'static str,
    /// The MLP's first layer.
    pub up: UpNames,
    /// The MLP's second layer.
    pub down: &'static str,
    /// The norm after the MLP.
    pub mlp_norm: &'static str,
    /// Experts, for layers that have them.
    pub experts: Option<ExpertsNames>,
}

/// Names of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub enum QkvNames {
    /// Three layers.
    Apart([&'static str; 3]),
    /// One layer, whose outputs are those of the three, end to end.
    Stacked(&'static str),
}

/// Names of an MLP's first layer.
#[derive(Debug, Clone, Copy)]
pub enum UpNames {
    /// One layer with an activation, and a bias.
    Plain(&'static str),
    /// A gate with an activation, and what it is multiplied with.
    Gated {
        /// The gate.
        gate: &'static str,
        /// What it is multiplied with.
        value: &'static str,
    },
    /// One layer, whose first half is multiplied with the gate in its second half.
    ValueAndGate(&'static str),
    /// One layer, whose first half is the gate, and its second half what is multiplied with it.
    GateAndValue(&'static str),
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
    token_biases: Option<TokenBiases>,
    rotary: Option<Rotary>,
    /// CUDA graphs of short batches.
    recordings: Recordings,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    query_key_norms: Option<[LayerNorm; 2]>,
    output: Linear,
    inner_norm: Option<LayerNorm>,
    attention_norm: LayerNorm,
    mlp: Mlp,
    mlp_norm: LayerNorm,
}

/// What follows attention in a layer.
#[derive(Debug)]
enum Mlp {
    Plain { up: Linear, down: Linear },
    Gated { up: GatedLinear, down: Linear },
    Experts(Experts),
}

impl Mlp {
    fn load(
        loader: &Loader<'_>,
        index: usize,
        width: usize,
        config: &PostNormConfig,
        names: &PostNormNames,
    ) -> Result<Self, CheckpointError> {
        let &PostNormConfig { mlp, activation, biases, experts, .. } = config;
        if let (Some(experts), Some(names)) = (experts, &names.experts)
            && index % experts.every == 1
        {
            let experts = Experts::load(loader, names, experts, width, mlp, activation)?;
            return Ok(Self::Experts(experts));
        }
        let down = |padded: usize| {
            loader.linear_padded(&[LinearPart::new(names.down, width)], mlp, padded, biases.down)
        };
        let gated = |up| Ok(Self::Gated { up, down: down(GatedLinear::padded(mlp))? });
        match names.up {
            UpNames::Plain(name) => {
                let up = loader.linear(&[LinearPart::new(name, mlp)], width, true)?;
                Ok(Self::Plain { up, down: down(mlp)? })
            }
            UpNames::Gated { gate, value } => {
                gated(loader.gated(gate, value, width, mlp, activation)?)
            }
            UpNames::ValueAndGate(name) => {
                gated(loader.gated_of_one(name, width, mlp, activation, false)?)
            }
            UpNames::GateAndValue(name) => {
                gated(loader.gated_of_one(name, width, mlp, activation, true)?)
            }
        }
    }

    /// The layout of its input.
    fn input_layout(&self) -> InputLayout {
        match self {
            Self::Plain { up, .. } => up.input_layout(),
            Self::Gated { up, .. } => up.input_layout(),
            Self::Experts(experts) => experts.input_layout(),
        }
    }

    fn weight_bytes(&self) -> usize {
        match self {
            Self::Plain { up, down } => up.weight_bytes() + down.weight_bytes(),
            Self::Gated { up, down } => up.weight_bytes() + down.weight_bytes(),
            Self::Experts(experts) => experts.weight_bytes(),
        }
    }
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
        let layers = (0..config.layers).map(|index| {
            let loader = loader.at(&format!("{}.{index}.", names.layers));
            Layer::load(&loader, index, tables.width, config, names)
        });
        let rotary = config.rotary.map(|rule| Rotary::by(rule, config.heads.size, loader.device()));
        Ok(Self {
            embeddings: TokenEmbeddings::load(&loader.at("embeddings."), tables)?,
            norm: LayerNorm::load(loader, names.embedding_norm, tables.width, config.eps, true)?,
            layers: layers.collect::<Result<_, _>>()?,
            heads: config.heads,
            activation: config.activation,
            bias: None,
            token_biases: None,
            rotary: rotary.transpose().map_err(|error| loader.failed(error))?,
            recordings: Recordings::default(),
        })
    }

    /// The encoder with a bias of its attention, the same in all layers.
    #[must_use]
    pub fn with_bias(self, bias: RelativeBias) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// The encoder with biases of its attention by token.
    #[must_use]
    pub fn with_token_biases(self, biases: TokenBiases) -> Self {
        Self { token_biases: Some(biases), ..self }
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
        let longest = longest.unwrap_or(0);
        let bias = self.bias.as_ref().map(|bias| bias.of(longest)).transpose()?;
        let tables = self.rotary.as_ref().map(|rotary| rotary.tables(longest)).transpose()?;
        let positions = if tables.is_some() { batch.positions() } else { Vec::new() };
        let attention = AttentionPositions {
            rotation: tables.as_deref().map(|tables| Rotation { positions: &positions, tables }),
            bias: bias.as_deref(),
        };
        let mut parts = InParts::new(batch, embedded, first.weight_bytes(), |_, embedded| {
            let (hidden, input) = self.norm.forward_for(&embedded, first.qkv.input_layout())?;
            Ok(LayerState { hidden, input })
        })?;
        for (index, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(index + 1).unwrap_or(layer);
            next_layer();
            parts.step(pause, |part, state| self.forward(part, state, index, next, attention))?;
        }
        Rows::joined(parts.finish().into_iter().map(|state| state.hidden).collect())
    }

    /// Takes a part of a batch through the layer at `index`, with the result also in the input
    /// layout of `next`.
    fn forward(
        &self,
        part: &BatchPart,
        LayerState { hidden, input }: LayerState,
        index: usize,
        next: &Layer,
        attention: AttentionPositions<'_>,
    ) -> Result<LayerState, KernelError> {
        let layer = &self.layers[index];
        let mut qkv = layer.qkv.of(&input, None, None)?;
        if let Some(norms) = &layer.query_key_norms {
            qkv = normed_queries_and_keys(&qkv, norms)?;
        }
        if let Some(rotation) = attention.rotation {
            let Rotation { positions, tables } = rotation.of_rows(part.rows());
            qkv = rotary(qkv, self.heads, None, positions, tables)?;
        }
        let segments = part.segments();
        let mut summed = match &self.token_biases {
            Some(biases) => biases.attend(index, &qkv, segments, &layer.output, &hidden)?,
            None => {
                let bias = attention.bias.map(ScoreBias::Table);
                let scoring = Scoring { mask: Mask::Full, bias };
                let rows = segments.into();
                let mixed = attention_for(&qkv, self.heads, rows, scoring, &layer.output)?;
                layer.output.of(&mixed, None, Some(&hidden))?
            }
        };
        if let Some(norm) = &layer.inner_norm {
            summed = Rows::of(&(norm.forward(&summed.tensor()?)? + hidden.tensor()?)?)?;
        }
        let layout = layer.mlp.input_layout();
        let (hidden, input) = layer.attention_norm.forward_for(&summed, layout)?;
        let summed = match &layer.mlp {
            Mlp::Plain { up, down } => {
                let wide = up.apply_for(&input, Some(self.activation), down.input_layout())?;
                down.of(&wide, None, Some(&hidden))?
            }
            Mlp::Gated { up, down } => {
                let wide = up.apply_for(&input, down.input_layout())?;
                down.of(&wide, None, Some(&hidden))?
            }
            Mlp::Experts(experts) => experts.forward(&hidden, &input)?,
        };
        let (hidden, input) = layer.mlp_norm.forward_for(&summed, next.qkv.input_layout())?;
        Ok(LayerState { hidden, input })
    }
}

impl Encoder for PostNorm {
    fn run(&self, batch: &RaggedBatch, pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        let embedded = self.embeddings.of(batch)?;
        let is_recorded = self.token_biases.is_none() && self.layers.iter().all(Layer::is_recorded);
        let hidden = match batch.layout().filter(|_| is_recorded) {
            Some(layout) => self.recordings.run(&layout, embedded, pause, |embedded, pause| {
                self.layers(batch, embedded, pause)
            })?,
            None => self.layers(batch, embedded, pause)?,
        };
        HiddenStates::new(&hidden, batch)
    }
}

/// What attention uses of a batch's positions.
#[derive(Clone, Copy)]
struct AttentionPositions<'a> {
    rotation: Option<Rotation<'a>>,
    bias: Option<&'a PositionBias>,
}

/// Hidden states between two layers.
struct LayerState {
    hidden: Rows,
    /// The same, in the next layer's input layout.
    input: LinearInput,
}

/// Queries, keys and values, the former two normalised.
fn normed_queries_and_keys(qkv: &Rows, norms: &[LayerNorm; 2]) -> Result<Rows, KernelError> {
    let qkv = qkv.tensor()?;
    let width = qkv.dim(1)? / 3;
    let part = |index: usize| qkv.narrow(1, index * width, width)?.contiguous();
    let [queries, keys] = norms;
    let parts = [queries.forward(&part(0)?)?, keys.forward(&part(1)?)?, part(2)?];
    Rows::of(&Tensor::cat(&parts, 1)?)
}

impl Layer {
    /// Whether short batches are recorded. Which experts run depends on the tokens, so a recording
    /// would be of one batch; and norms within attention are not computed in place.
    fn is_recorded(&self) -> bool {
        let has_experts = matches!(self.mlp, Mlp::Experts(_));
        !has_experts && self.query_key_norms.is_none() && self.inner_norm.is_none()
    }

    fn load(
        loader: &Loader<'_>,
        index: usize,
        width: usize,
        config: &PostNormConfig,
        names: &PostNormNames,
    ) -> Result<Self, CheckpointError> {
        let &PostNormConfig { eps, biases, .. } = config;
        let norm = |name: &str| LayerNorm::load(loader, name, width, eps, true);
        let parts = match &names.qkv {
            QkvNames::Apart(names) => names.map(|name| LinearPart::new(name, width)).to_vec(),
            QkvNames::Stacked(name) => vec![LinearPart::new(name, 3 * width)],
        };
        Ok(Self {
            qkv: loader.linear(&parts, width, biases.qkv)?,
            query_key_norms: match names.query_key_norms {
                Some([queries, keys]) => Some([norm(queries)?, norm(keys)?]),
                None => None,
            },
            output: loader.linear(&[LinearPart::new(names.output, width)], width, biases.output)?,
            inner_norm: names.inner_norm.map(norm).transpose()?,
            attention_norm: norm(names.attention_norm)?,
            mlp: Mlp::load(loader, index, width, config, names)?,
            mlp_norm: norm(names.mlp_norm)?,
        })
    }

    fn weight_bytes(&self) -> usize {
        self.qkv.weight_bytes() + self.output.weight_bytes() + self.mlp.weight_bytes()
    }
}
