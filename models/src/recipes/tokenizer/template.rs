//! Which texts a tokenizer's template contains, and how often.
//!
//! Must not know: what the special tokens around them mean.

use serde_json::Value;
use tokenizers::PostProcessorWrapper;

/// Whether each template contains every text exactly once: the single text, or both of a pair. The
/// library applies templates even if no special tokens are asked for, so a text repeated there
/// would be repeated again when the template is added.
pub fn has_each_once(post: &PostProcessorWrapper, pair: bool) -> bool {
    let told = serde_json::to_value(post).unwrap_or_default();
    let (key, texts) = if pair { ("pair", &["A", "B"][..]) } else { ("single", &["A"][..]) };
    let holds = |template: &Value| {
        let pieces = template[key].as_array().into_iter().flatten();
        let mut found: Vec<&str> =
            pieces.filter_map(|piece| piece["Sequence"]["id"].as_str()).collect();
        found.sort_unstable();
        found == texts
    };
    match told["type"].as_str() {
        Some("TemplateProcessing") => holds(&told),
        Some("Sequence") => {
            let all = told["processors"].as_array().into_iter().flatten();
            all.filter(|processor| processor["type"] == "TemplateProcessing").all(holds)
        }
        _ => true,
    }
}
