//! Architectures: one file each, one list.
//!
//! Must not know: recipes, readouts, which device they run on.

mod bert;
mod modern_bert;
mod qwen3;
mod qwen3_vl;
mod xlm_roberta;

use proxima_kernels::Device;
use proxima_kernels::spec::Precision;

use crate::batch::Encoder;
use crate::checkpoint::keys::Key;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::readout::{Pooling, ScoreReadout, WordsHead};

/// An architecture.
pub struct Family {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// Architectures of `config.json` that are this network without or below a head we do not need.
    pub architectures: &'static [&'static str],
    /// What is done with the keys of `config.json` that are its own; they go before those that
    /// all families share.
    pub keys: &'static [Key],
    /// Other configuration files that it reads, each with its keys.
    pub files: &'static [(&'static str, &'static [&'static [Key]])],
    /// The pooling of a checkpoint that says nothing, for the architectures where only one makes
    /// sense.
    pub pooling: fn(&Checkpoint) -> Option<Pooling>,
    /// Makes the network.
    pub load: fn(&Checkpoint, Precision, &Device) -> Result<Network, CheckpointError>,
    /// Makes the score head of a `*ForSequenceClassification`, over hidden states of this width.
    pub score: LoadScore,
    /// Makes the head that gives a logit for each word of the vocabulary, over hidden states of
    /// this width; `None` where there is none.
    pub words: Option<LoadWords>,
    /// What it says of its causal language models, whose files leave open what they are for, and
    /// whose logits can answer yes or no; `None` where there are none.
    pub language_model: Option<LanguageModel>,
}

/// The causal language models of an architecture.
pub struct LanguageModel {
    /// Architectures of `config.json` without a language head, which are embedders.
    pub embedders: &'static [&'static str],
    /// What the name of the embedding table may begin with, before `embed_tokens.weight`.
    pub tables: &'static [&'static str],
    /// Names that the language head may have.
    pub heads: &'static [&'static str],
}

/// Makes the head of a masked language model: layers before the last, and the last.
pub type LoadWords = fn(&Checkpoint, &Network, &Device) -> Result<WordsHead, CheckpointError>;

/// Makes a score head.
pub type LoadScore = fn(&Checkpoint, usize, &Device) -> Result<ScoreReadout, CheckpointError>;

/// A network and what its configuration says of it.
pub struct Network {
    /// The network.
    pub encoder: Box<dyn Encoder>,
    /// Numbers in a hidden state.
    pub width: usize,
    /// Positions it knows, as its configuration says.
    pub positions: usize,
    /// Whether they are rotary, so that further ones can be computed, too.
    pub rotary_positions: bool,
    /// Tokens it knows.
    pub vocabulary: usize,
    /// Token types it knows; 0 if its tokens have none.
    pub token_types: usize,
}

/// All families.
pub fn all() -> Vec<Family> {
    let mut families =
        vec![bert::family(), modern_bert::family(), qwen3::family(), qwen3_vl::family()];
    families.extend(xlm_roberta::families());
    families
}

/// The family of a checkpoint.
///
/// # Errors
/// A sentence, if it is none that is served.
pub fn of(checkpoint: &Checkpoint) -> Result<Family, CheckpointError> {
    let wanted = checkpoint.model_type();
    let known: Vec<&str> = all().iter().map(|family| family.model_type).collect();
    let family = all().into_iter().find(|family| family.model_type == wanted).ok_or_else(|| {
        let known = known.join(", ");
        checkpoint.config_error(format!("model_type {wanted:?} is not served; served: {known}"))
    })?;
    // A chain that pools takes the transformer alone, of whatever class it was saved, unless that
    // class is code of the checkpoint.
    let pools = checkpoint.sentence_transformers().is_some_and(|it| it.pooling().is_some());
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
                format!("architecture {name} is not served; served of {wanted}: {served}");
            Err(checkpoint.config_error(problem))
        }
        None => Ok(family),
    }
}
