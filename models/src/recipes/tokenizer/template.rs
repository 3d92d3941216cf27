//! Which texts the template of a tokenizer's file has, and how often.
//!
//! Must not know: what the special tokens around them mean.

use serde_json::Value;
use tokenizers::PostProcessorWrapper;

/// Whether each template puts every text into a sequence once: one, or of a pair both. The library
/// puts them through its templates again where special tokens are not wanted, so others are not
/// what they seem.
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
