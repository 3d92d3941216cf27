//! Architectures: one file each, and their list.
//!
//! Must not know: recipes, readouts, which device they run on.

mod bert;
mod deberta;
mod distilbert;
mod embedding_gemma2;
mod eurobert;
mod gemma;
mod gemma3;
mod gte;
mod heads;
mod jina_bert;
mod llama;
mod modern_bert;
mod mpnet;
mod nomic_bert;
mod qwen3;
mod qwen3_vl;
mod static_embedding;
mod xlm_roberta;

use proxima_kernels::Device;
use proxima_kernels::spec::Precision;

use crate::batch::Encoder;
use crate::checkpoint::keys::Key;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::conventions::Conventions;
use crate::readout::{Pooling, ScoreReadout, WordsHead};

/// An architecture.
pub struct Family {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// Whether a checkpoint of this `model_type` is of this architecture, if the type is shared.
    pub is: Option<fn(&Checkpoint) -> bool>,
    /// Values of `architectures` in `config.json` that are served as this network, with or without
    /// a head.
    pub architectures: &'static [&'static str],
    /// How its own keys of `config.json` are handled; they take precedence over those that all
    /// families share.
    pub keys: &'static [Key],
    /// What the published code does around its network.
    pub conventions: Conventions,
    /// Other configuration files that it reads, with their keys.
    pub files: &'static [(&'static str, &'static [&'static [Key]])],
    /// The default pooling of a checkpoint that sets none, for architectures where only one makes
    /// sense.
    pub pooling: fn(&Checkpoint) -> Option<Pooling>,
    /// Loads the network.
    pub load: fn(&Checkpoint, Precision, &Device) -> Result<Network, CheckpointError>,
    /// Loads the score head of a `*ForSequenceClassification`, for hidden states of this width.
    pub score: LoadScore,
    /// Loads the vocabulary head, which gives one logit per word; `None` if there is none.
    pub words: Option<LoadWords>,
    /// For its causal language models, whose files do not tell what they are for, and whose logits
    /// can answer yes or no; `None` if there are none.
    pub language_model: Option<LanguageModel>,
}

/// The causal language models of an architecture.
pub struct LanguageModel {
    /// Values of `architectures` without a language head; these are embedders.
    pub embedders: &'static [&'static str],
    /// Values of `architectures` with a projector that ranks lists instead of a language head.
    pub list_rankers: &'static [&'static str],
    /// Possible prefixes of the embedding table, `embed_tokens.weight`.
    pub tables: &'static [&'static str],
    /// Possible names of the language head's weights.
    pub heads: &'static [&'static str],
    /// Whether the head is the embedding table if the configuration does not say.
    pub tied: bool,
}

/// Loads the head of a masked language model.
pub type LoadWords = fn(&Checkpoint, &Network, &Device) -> Result<WordsHead, CheckpointError>;

/// Loads a score head for hidden states of this width.
pub type LoadScore = fn(&Checkpoint, usize, &Device) -> Result<ScoreReadout, CheckpointError>;

/// A network and its properties, according to its configuration.
pub struct Network {
    /// The network.
    pub encoder: Box<dyn Encoder>,
    /// Size of a hidden state.
    pub width: usize,
    /// Number of positions, according to its configuration.
    pub positions: usize,
    /// Whether positions are rotary, so that more of them can be computed.
    pub rotary_positions: bool,
    /// Size of its vocabulary.
    pub vocabulary: usize,
    /// Number of token types; 0 if there are none.
    pub token_types: usize,
}

/// All families.
pub fn all() -> Vec<Family> {
    let mut families = vec![
        // Before BERT, whose type it shares.
        jina_bert::family(),
        bert::family(),
        deberta::family(),
        distilbert::family(),
        eurobert::family(),
        gemma::family(),
        gemma3::family(),
        modern_bert::family(),
        mpnet::family(),
        nomic_bert::family(),
        qwen3_vl::family(),
        static_embedding::family(),
    ];
    families.extend(embedding_gemma2::families());
    families.extend(gte::families());
    families.extend(llama::families());
    families.extend(qwen3::families());
    families.extend(xlm_roberta::families());
    families
}

/// The family of a checkpoint.
///
/// # Errors
/// An architecture that is not served.
pub fn of(checkpoint: &Checkpoint) -> Result<Family, CheckpointError> {
    let wanted = checkpoint.model_type();
    let mut known: Vec<&str> = all().iter().map(|family| family.model_type).collect();
    let found = all()
        .into_iter()
        .find(|family| family.model_type == wanted && family.is.is_none_or(|is| is(checkpoint)));
    let family = found.ok_or_else(|| {
        known.sort_unstable();
        known.dedup();
        let known = known.join(", ");
        checkpoint
            .config_error(format!("model_type {wanted:?} is not supported; supported: {known}"))
    })?;
    // A module chain that pools uses the bare transformer, whatever class it was saved as, unless
    // that class is the checkpoint's own code.
    let pools =
        checkpoint.sentence_transformers().is_some_and(|modules| modules.pooling().is_some());
    if pools && !checkpoint.has("auto_map") {
        return Ok(family);
    }
    let strange = checkpoint
        .architectures()
        .into_iter()
        .find(|architecture| !family.architectures.contains(architecture));
    match strange {
        Some(name) => {
            let served = family.architectures.join(", ");
            let problem =
                format!("architecture {name} is not supported; supported for {wanted}: {served}");
            Err(checkpoint.config_error(problem))
        }
        None => Ok(family),
    }
}
