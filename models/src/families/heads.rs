//! Heads that several families share: over words, and for scores.
//!
//! Must not know: networks, templates.

use proxima_kernels::Device;
use proxima_kernels::spec::{Activation, Precision};

use super::Network;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::layers::{LayerNorm, Loader};
use crate::readout::{HeadLayer, Pooling, ScoreReadout, WordsHead};

/// Names of the tensors of a vocabulary head.
pub(super) struct WordsNames<'a> {
    pub dense: &'a str,
    pub norm: &'a str,
    pub bias: &'a str,
    /// The last layer's weights; if they are not stored, those of the word embeddings (`words`).
    pub decoder: &'a str,
    pub words: &'a str,
    /// Activation of the dense layer.
    pub activation: Activation,
    /// Epsilon of the norm.
    pub eps: f32,
}

/// The vocabulary head: dense layer, activation and norm, then one logit per word.
pub(super) fn words(
    checkpoint: &Checkpoint,
    network: &Network,
    device: &Device,
    names: &WordsNames<'_>,
) -> Result<WordsHead, CheckpointError> {
    let (width, vocabulary) = (network.width, network.vocabulary);
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let norm = LayerNorm::load(&loader, names.norm, width, names.eps, true)?;
    let dense = HeadLayer::load(&loader, names.dense, width, width, true)?
        .with_activation(names.activation)
        .with_norm(norm);
    let decoder = decoder_or_words(checkpoint, &loader, names.decoder, names.words)?;
    // transformers loads the bias under either name and prefers the decoder's own. If the head is
    // not tied, it ignores the other name and leaves the bias at zero.
    let own_bias = names.decoder.replace(".weight", ".bias");
    let tied = checkpoint.said("tie_word_embeddings") != Some(false);
    let bias = if tied && !loader.has(&own_bias) { names.bias } else { own_bias.as_str() };
    let last = loader.linear_of(decoder, bias, width, vocabulary)?;
    Ok(WordsHead { layers: vec![dense], last })
}

/// The name of the word embeddings, which tied heads use, under one of these prefixes.
pub(super) fn table_of_words(
    checkpoint: &Checkpoint,
    prefixes: &[&'static str],
) -> Result<String, CheckpointError> {
    let table = "embeddings.word_embeddings.weight";
    Ok(format!("{}{table}", checkpoint.weights().prefix(prefixes, table)?))
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
            "the config does not tie the language head to the embeddings, and there is no {decoder}"
        );
        return Err(CheckpointError::new(checkpoint.dir(), problem));
    }
    Ok(words)
}

/// One layer over the last token, `score`, as decoders have it.
pub(super) fn last_token_score(
    checkpoint: &Checkpoint,
    width: usize,
    device: &Device,
) -> Result<ScoreReadout, CheckpointError> {
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let labels = checkpoint.labels()?;
    let head = HeadLayer::load(&loader, "score", width, labels.len(), false)?;
    Ok(ScoreReadout::new(Pooling::Last, vec![head], labels))
}

/// The pooler of BERT, a dense layer with tanh over the first token, then the classifier.
pub(super) fn pooler_score(
    checkpoint: &Checkpoint,
    width: usize,
    device: &Device,
    prefixes: &[&'static str],
) -> Result<ScoreReadout, CheckpointError> {
    let prefix = checkpoint.weights().prefix(prefixes, "pooler.dense.weight")?;
    let dense = format!("{prefix}pooler.dense");
    let names = ScoreNames { dense: &dense, activation: Activation::Tanh, output: "classifier" };
    score(checkpoint, width, device, &names)
}

/// A score head over the first token: a dense layer with an activation, then the output layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScoreNames<'a> {
    pub dense: &'a str,
    pub activation: Activation,
    pub output: &'a str,
}

/// Loads a score head for hidden states of this width.
pub(super) fn score(
    checkpoint: &Checkpoint,
    width: usize,
    device: &Device,
    names: &ScoreNames<'_>,
) -> Result<ScoreReadout, CheckpointError> {
    let loader = Loader::new(checkpoint.weights(), "", Precision::Float32, device);
    let labels = checkpoint.labels()?;
    let layers = vec![
        HeadLayer::load(&loader, names.dense, width, width, true)?
            .with_activation(names.activation),
        HeadLayer::load(&loader, names.output, width, labels.len(), true)?,
    ];
    Ok(ScoreReadout::new(Pooling::Cls, layers, labels))
}
