//! The failures of operations, in the document.
//!
//! Must not know: any dialect's bodies.

use std::collections::BTreeMap;
use std::time::Duration;

use proxima_engine::{EngineError, UnknownModel};
use serde_json::Value;

use super::content;
use crate::dialects::{self, Dialect};
use crate::http::{Failure, Listed, needs_no_key};

/// Paths whose inputs are only texts.
const WITHOUT_FILES: [&str; 5] = ["/predict", "/similarity", "/tokenize", "/decode", "/vectors"];

/// What an operation may fail with, and the description of its status in the document.
type MayFail = (fn() -> Failure, &'static str);

const FILES: MayFail = (
    || Failure::Upstream { message: String::new() },
    "a host did not return an image or a video; see Retry-After",
);

/// What every operation at a path may fail with.
fn of_all(route: &Listed) -> Vec<MayFail> {
    let mut all: Vec<MayFail> = vec![
        (|| Failure::Malformed { message: String::new() }, "malformed HTTP request"),
        (|| Failure::Browser, "the web page may not call the server"),
        (|| Failure::TransferCoding { coding: String::new() }, "unsupported transfer coding"),
        (|| Failure::Stopping, "not ready, stopping, or not answered in time"),
        (|| Failure::Bug, "a bug"),
    ];
    if !needs_no_key(route.path) && (route.path, route.method) != ("/", "get") {
        all.push((|| Failure::Unauthorized, "no valid API key"));
    }
    if route.path.contains('{') {
        all.push((unknown_model, "no such model"));
    }
    all
}

fn unknown_model() -> Failure {
    Failure::UnknownModel(UnknownModel { name: String::new(), known: Vec::new() })
}

/// What every operation with a body may fail with.
fn of_bodies() -> Vec<MayFail> {
    vec![
        (|| Failure::Body { message: String::new(), syntax: true }, "the body is not JSON"),
        (|| Failure::body(""), "something is wrong with the request"),
        (unknown_model, "no such model"),
        (|| Failure::SlowBody { limit: Duration::ZERO }, "the body arrives too slowly"),
        (|| Failure::BodyTooLarge { limit: 0 }, "the body, or the answer, is too large"),
        (|| Failure::Coding { coding: String::new() }, "content coding other than gzip or zstd"),
        (|| Failure::TooManyRequests { limit: 0 }, "overloaded; see Retry-After"),
        (|| Failure::Engine(EngineError::Failed { reason: String::new() }), "the model failed"),
    ]
}

/// A status: its descriptions, and the schemas of its body.
#[derive(Default)]
struct Status {
    says: Vec<&'static str>,
    bodies: Vec<String>,
}

/// Adds the responses for failures to those of an operation. At a path that several dialects share,
/// its owner responds until it is known whose body it is.
pub fn add(responses: &mut Value, route: &Listed, sharing: &[Dialect]) {
    let owner = dialects::owner(route.path);
    let mut statuses: BTreeMap<u16, Status> = BTreeMap::new();
    let mut fail = |dialect: &Dialect, (failure, says): MayFail| {
        let status = (dialect.failure)(&failure()).status().as_u16();
        let status = statuses.entry(status).or_default();
        if !status.says.contains(&says) {
            status.says.push(says);
        }
        if !status.bodies.iter().any(|body| body == dialect.error) {
            status.bodies.push(dialect.error.to_owned());
        }
    };
    of_all(route).into_iter().for_each(|failure| fail(&owner, failure));
    if route.method == "post" {
        for dialect in std::iter::once(&owner).chain(sharing) {
            of_bodies().into_iter().for_each(|failure| fail(dialect, failure));
            if !WITHOUT_FILES.contains(&route.path) {
                fail(dialect, FILES);
            }
        }
    }
    for (status, mut answer) in statuses {
        let response = &mut responses[status.to_string()];
        let body = &response["content"]["application/json"]["schema"]["$ref"];
        if let Some(name) = body.as_str().and_then(|reference| reference.rsplit('/').next()) {
            let own = name.to_owned();
            answer.bodies.retain(|name| *name != own);
            answer.bodies.insert(0, own);
        }
        if response["description"].is_null() {
            response["description"] = answer.says.join("; or ").into();
        }
        response["content"] = content(answer.bodies.iter().map(String::as_str));
    }
}
