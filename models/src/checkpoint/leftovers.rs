//! Tensors that nothing reads: those known to be irrelevant, those that deserve a warning, and
//! layers beyond the configured number.
//!
//! Must not know: any one family.

use std::collections::BTreeSet;

use super::Weights;
use super::keys::Warning;

/// Parts of names of tensors that affect no vector or score: heads of other tasks, tables that are
/// computed, towers of other modalities.
const HARMLESS: [&str; 20] = [
    "pooler",
    "cls",
    "lm_head",
    "head",
    "qa_outputs",
    "score",
    "classifier",
    "position_ids",
    "token_type_ids",
    "inv_freq",
    "rotary_emb",
    "num_batches_tracked",
    "visual",
    "vision_tower",
    "vision_model",
    "audio_tower",
    "embed_vision",
    "embed_audio",
    "mtp",
    "decoder",
];
/// Names of lists of layers.
const LISTS: [&str; 5] = ["layer", "layers", "blocks", "h", "deepstack_merger_list"];
/// Maximum number of names in a warning.
const NAMED: usize = 8;

/// A warning about tensors that nothing has read, if there are any.
///
/// # Errors
/// A message, if there are more layers than were read.
pub fn check(weights: &Weights) -> Result<Option<Warning>, String> {
    let read = weights.names().filter(|(_, used)| *used);
    let layers: BTreeSet<(&str, usize)> = read.filter_map(|(name, _)| layer(name)).collect();
    let mut names: Vec<String> = Vec::new();
    let mut count = 0;
    for (name, _) in weights.names().filter(|(_, used)| !*used) {
        if let Some((list, index)) = layer(name)
            && !layers.contains(&(list, index))
            && let most = layers.iter().filter(|layer| layer.0 == list).count()
            && most > 0
        {
            return Err(format!(
                "there is a tensor {name}, but the configuration has only {most} layers of {list}; \
                 without its last layers it would be a different network"
            ));
        }
        if name.split('.').any(|part| HARMLESS.contains(&part)) {
            continue;
        }
        count += 1;
        if names.len() < NAMED {
            names.push(name.to_owned());
        }
    }
    Ok((count > 0).then_some(Warning::UnusedTensors { names, count }))
}

/// The list of layers that a tensor belongs to, and the layer's index: `encoder.layer` and 3 for
/// `encoder.layer.3.output.dense.weight`.
fn layer(name: &str) -> Option<(&str, usize)> {
    let mut start = 0;
    let mut before = "";
    for part in name.split('.') {
        if LISTS.contains(&before)
            && let Ok(index) = part.parse()
        {
            return Some((&name[..start - 1], index));
        }
        start += part.len() + 1;
        before = part;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_by_their_names() {
        assert_eq!(layer("encoder.layer.3.output.dense.weight"), Some(("encoder.layer", 3)));
        assert_eq!(layer("layers.11.norm.weight"), Some(("layers", 11)));
        assert_eq!(layer("model.visual.blocks.0.norm1.bias"), Some(("model.visual.blocks", 0)));
        for name in ["", "embeddings.word_embeddings.weight", "encoder.layer.norm.weight", "3.x"] {
            assert_eq!(layer(name), None, "{name}");
        }
    }
}
