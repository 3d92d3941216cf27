//! Names: of models, of revisions, and of the repository files that a checkpoint needs.
//!
//! Must not know: the network, the cache.

use proxima_models::checkpoint::{LENGTH_FILES, PICKLE};

/// Files besides the weights that a checkpoint is read from.
const FILES: [&str; 17] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "modules.json",
    "config_sentence_transformers.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "adapter_config.json",
    "model.safetensors.index.json",
    "sparse_linear.pt",
    "sparse_linear.safetensors",
    "colbert_linear.pt",
    "colbert_linear.safetensors",
];

/// Whether this is an id like `OWNER/NAME`.
pub fn is_model_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('/').collect();
    let valid = |part: &&str| {
        let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        !part.is_empty() && letters && !part.starts_with('.') && !part.contains("..")
    };
    (1..=2).contains(&parts.len()) && parts.iter().all(valid)
}

/// Whether this can be the name of a branch, tag or commit: a path below `refs`.
pub fn is_revision(revision: &str) -> bool {
    revision.split('/').all(|part| {
        let letters = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+=@".contains(c));
        !part.is_empty() && letters && !part.starts_with('.') && !part.contains("..")
    })
}

/// Whether a revision is the full hash of a commit, which never changes.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a checkpoint needs this file of a repository that has all of these files.
pub fn is_needed(name: &str, all: &[String]) -> bool {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let module = folder.split_once('_').is_some_and(|(number, rest)| {
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) && !rest.contains('/')
    });
    // Older modules after the transformer store their weights as PyTorch pickles.
    let pickled = || {
        let newer = format!("{folder}/model.safetensors");
        module && !folder.ends_with("Transformer") && file == PICKLE && !all.contains(&newer)
    };
    let read = FILES.contains(&file) || LENGTH_FILES.contains(&file) || is_weights(file);
    (folder.is_empty() || module) && (read || pickled())
}

/// Whether a file name, without its folder, is that of a transformer's weights or a shard of them.
pub fn is_weights(file: &str) -> bool {
    file == "model.safetensors" || (file.starts_with("model-") && file.ends_with(".safetensors"))
}

/// Whether a name from a list of files stays within its folder.
pub fn is_relative(name: &str) -> bool {
    let valid =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\\');
    name.split('/').all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickled_weights_are_needed_of_modules_without_others() {
        let all = ["model.safetensors", "pytorch_model.bin", "2_Dense/pytorch_model.bin"];
        let needed = |name: &str, all: &[&str]| {
            let all: Vec<String> = all.iter().map(|name| (*name).to_owned()).collect();
            is_needed(name, &all)
        };
        assert!(needed("2_Dense/pytorch_model.bin", &all));
        assert!(!needed("pytorch_model.bin", &all));
        assert!(!needed("0_Transformer/pytorch_model.bin", &all));
        assert!(!needed("onnx/pytorch_model.bin", &all));
        let both = [&all[..], &["2_Dense/model.safetensors"]].concat();
        assert!(!needed("2_Dense/pytorch_model.bin", &both));
    }
}
