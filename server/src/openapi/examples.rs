//! Examples of bodies and responses, as produced by the demo model.
//!
//! Must not know: what they contain.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::Listed;

/// A body and its response.
#[derive(Deserialize)]
struct Example {
    path: String,
    name: String,
    request: Value,
    /// Absent if the response is long, or if the demo model cannot produce it.
    response: Option<Value>,
}

/// Adds the examples to their operations, and to those at other paths with the same handler.
///
/// # Panics
/// Never: the examples are compiled in, and a test reads them.
pub fn add(paths: &mut Value, routes: &[Listed]) {
    let examples: Vec<Example> =
        serde_json::from_str(include_str!("examples.json")).expect("examples are JSON");
    for route in routes.iter().filter(|route| route.method == "post") {
        let its = examples.iter().filter(|example| example.path == route.path);
        let its: Vec<&Example> = its.collect();
        let its = match its.is_empty() {
            true => examples.iter().filter(|example| example.path == route.described).collect(),
            false => its,
        };
        let operation = &mut paths[route.path]["post"];
        let named = |value: fn(&Example) -> Option<&Value>| -> Map<String, Value> {
            let each = its.iter().filter_map(|example| Some((&example.name, value(example)?)));
            each.map(|(name, value)| (name.clone(), json!({ "value": value }))).collect()
        };
        let (requests, responses) =
            (named(|example| Some(&example.request)), named(|example| example.response.as_ref()));
        for (part, values) in [("requestBody", requests), ("responses/200", responses)] {
            let pointer = format!("/{part}/content/application~1json");
            let content = operation.pointer_mut(&pointer).filter(|_| !values.is_empty());
            if let Some(content) = content {
                content["examples"] = Value::Object(values);
            }
        }
    }
}
