//! The headers of responses, in the document.
//!
//! Must not know: any dialect's bodies.

use proxima_engine::Timings;
use serde_json::{Value, json};

use crate::http::{COMPUTE_TYPE, Listed, timing_values};

/// Paths with a body whose answers are not computed by a model.
const NOT_COMPUTED: [&str; 2] = ["/tokenize", "/decode"];

/// Adds the headers of responses to the components of the document.
pub fn describe(components: &mut Value) {
    let times = timing_values(&Timings::default()).map(|(name, _)| {
        let says = match name {
            "x-compute-characters" => "Characters of all inputs.",
            "x-compute-tokens" => "Tokens of all inputs.",
            _ => "Milliseconds.",
        };
        (name, "integer", true, says.to_owned())
    });
    let compute_type = format!("Always `{COMPUTE_TYPE}`, as in text-embeddings-inference.");
    let request_id = "The request's own `x-request-id`, or a new one; it is in the log, too.";
    let method = "How documents were ranked: `similarity`, `pointwise` or `listwise`.";
    let others = [
        ("x-compute-type", "string", true, compute_type),
        ("x-rerank-method", "string", true, method.to_owned()),
        ("x-request-id", "string", true, request_id.to_owned()),
        ("WWW-Authenticate", "string", false, "The required authentication scheme.".to_owned()),
        ("Accept-Encoding", "string", false, "The supported content codings.".to_owned()),
        (
            "Retry-After",
            "integer",
            false,
            "Seconds to wait before retrying, if that helps.".to_owned(),
        ),
    ];
    for (name, kind, required, says) in times.into_iter().chain(others) {
        components["headers"][name] =
            json!({ "description": says, "required": required, "schema": { "type": kind } });
    }
}

/// Adds headers to the responses of an operation.
pub fn add(responses: &mut Value, route: &Listed) {
    let Some(responses) = responses.as_object_mut() else { return };
    for (status, response) in responses {
        let mut names = vec!["x-request-id"];
        match status.as_str() {
            "200" if route.path.ends_with("rerank") => names.push("x-rerank-method"),
            "401" => names.push("WWW-Authenticate"),
            "415" => names.push("Accept-Encoding"),
            "429" | "502" | "503" => names.push("Retry-After"),
            _ => {}
        }
        if status == "200" && route.method == "post" && !NOT_COMPUTED.contains(&route.path) {
            names.push("x-compute-type");
            names.extend(timing_values(&Timings::default()).map(|(name, _)| name));
        }
        for name in names {
            response["headers"][name] = json!({ "$ref": format!("#/components/headers/{name}") });
        }
    }
}
