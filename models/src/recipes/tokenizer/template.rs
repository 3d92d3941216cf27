//! Which texts the template of a tokenizer's file has, and how often.
//!
//! Must not know: what the special tokens around them mean.

use serde_json::Value;
use tokenizers::PostProcessorWrapper;

/// Whether each template has every text once: the only one, or both of a pair. The library applies
/// templates even where no special tokens are asked for, so a text that is repeated there would be
/// repeated again when the template is put around it.
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
            all.filter(|it| it["type"] == "TemplateProcessing").all(holds)
        }
        _ => true,
    }
}
