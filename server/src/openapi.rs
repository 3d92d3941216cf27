//! The OpenAPI document, made of the types that read and write the bodies.
//!
//! Must not know: what any part of it says.

use std::time::Duration;

use proxima_engine::{EngineError, UnknownModel};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, Schema};

use crate::dialects::{self, Dialect};
use crate::http::{Failure, needs_no_key};

#[derive(OpenApi)]
#[openapi(info(
    title = "Proxima",
    description = "Embeddings over HTTP. Every endpoint takes an optional `model`, `instruction` and output encoding.",
))]
struct Document;

/// The document, as JSON that people can read.
///
/// # Panics
/// Never: the document is plain data.
pub fn openapi_json() -> String {
    let mut document = Document::openapi();
    dialects::all().iter().for_each(|dialect| document.merge((dialect.openapi)()));
    for (path, item) in &mut document.paths.paths {
        let bodies = dialects::shared::bodies(path);
        if let Some(post) = item.post.as_mut().filter(|_| !bodies.is_empty()) {
            take_any(post, &bodies);
        }
        let owner = dialects::owner(path);
        if let Some(get) = &mut item.get {
            add_failures(get, &owner, &failures_of_all(path));
        }
        if let Some(post) = &mut item.post {
            add_failures(post, &owner, &failures_of_all(path));
            add_failures(post, &owner, &failures_of_bodies());
            if !WITHOUT_FILES.contains(&path.as_str()) {
                add_failures(post, &owner, &[FILES]);
            }
        }
    }
    let json = document.to_pretty_json().expect("the document is plain data");
    format!("{json}\n")
}

/// Paths whose inputs are texts alone.
const WITHOUT_FILES: [&str; 5] = ["/predict", "/similarity", "/tokenize", "/decode", "/vectors"];

/// What an operation may fail with, and what the document says of its status.
type MayFail = (fn() -> Failure, &'static str);

const FILES: MayFail = (
    || Failure::Upstream { message: String::new() },
    "a host does not give an image or a video; see Retry-After",
);

/// What everything at a path can fail with.
fn failures_of_all(path: &str) -> Vec<MayFail> {
    let mut all: Vec<MayFail> = vec![
        (|| Failure::Malformed { message: String::new() }, "the request is not as HTTP has it"),
        (|| Failure::Browser, "a web page that may not call the server"),
        (
            || Failure::TransferCoding { coding: String::new() },
            "another transfer coding than chunks",
        ),
        (|| Failure::Stopping, "not ready, about to stop, or not answered in time"),
        (|| Failure::Bug, "a bug"),
    ];
    if !needs_no_key(path) {
        all.push((|| Failure::Unauthorized, "no valid API key"));
    }
    all
}

/// What everything that takes a body can fail with.
fn failures_of_bodies() -> Vec<MayFail> {
    vec![
        (|| Failure::Body { message: String::new(), syntax: true }, "the body is not JSON"),
        (|| Failure::body(""), "something is wrong with the request"),
        (
            || Failure::UnknownModel(UnknownModel { name: String::new(), known: Vec::new() }),
            "no such model",
        ),
        (|| Failure::SlowBody { limit: Duration::ZERO }, "the body comes too slowly"),
        (|| Failure::BodyTooLarge { limit: 0 }, "the body, or the answer, is too large"),
        (|| Failure::Coding { coding: String::new() }, "another content coding than gzip or zstd"),
        (|| Failure::TooManyRequests { limit: 0 }, "overloaded; see Retry-After"),
        (|| Failure::Engine(EngineError::Failed { reason: String::new() }), "the model failed"),
    ]
}

/// Adds to an operation the statuses of these failures, where it does not have them.
fn add_failures(operation: &mut Operation, owner: &Dialect, failures: &[MayFail]) {
    for (failure, says) in failures {
        let status = (owner.failure)(&failure()).status().as_u16().to_string();
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(owner.error))).build();
        let response =
            ResponseBuilder::new().description(*says).content("application/json", body).build();
        operation.responses.responses.entry(status).or_insert_with(|| response.into());
    }
}

/// Says that an operation takes any of the bodies with these names.
fn take_any(post: &mut Operation, bodies: &[&str]) {
    let any = bodies
        .iter()
        .fold(AnyOfBuilder::new(), |any, body| any.item(Ref::from_schema_name(*body)))
        .build();
    let contents = match &mut post.request_body {
        Some(RefOr::T(body)) => &mut body.content,
        _ => return,
    };
    for content in contents.values_mut() {
        if let RefOr::T(content) = content {
            content.schema = Some(RefOr::T(Schema::AnyOf(any.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    /// The names of the schemas that something refers to.
    fn named(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match value.as_str().filter(|_| key == "$ref") {
                        Some(place) => {
                            names.extend(place.rsplit('/').next().map(str::to_owned));
                        }
                        None => named(value, names),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| named(value, names)),
            _ => {}
        }
    }

    #[test]
    fn every_body_is_one_of_a_path_and_every_name_is_known() {
        let document: Value = serde_json::from_str(&super::openapi_json()).expect("JSON");
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let mut names = BTreeSet::new();
        named(&document, &mut names);
        let unknown: Vec<_> = names.iter().filter(|name| !schemas.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let bodies = schemas.keys().filter(|name| name.ends_with("Body"));
        let unused: Vec<_> = bodies.filter(|name| !names.contains(*name)).collect();
        assert!(unused.is_empty(), "{unused:?}");
        let place = "/paths/~1v1~1embeddings/post/requestBody/content/application~1json/schema";
        let bodies = document.pointer(place).map(|schema| schema["anyOf"].clone());
        let names = |list: &Value| list.as_array().map(Vec::len);
        assert_eq!(bodies.as_ref().and_then(names), Some(4), "{bodies:?}");
    }

    #[test]
    fn content_and_messages_are_written_as_they_are_read() {
        let document: Value = serde_json::from_str(&super::openapi_json()).expect("JSON");
        let schemas = &document["components"]["schemas"];
        let types = |schema: &Value| {
            let of = |schema: &Value| schema["type"].as_str().unwrap_or("part").to_owned();
            schema["oneOf"].as_array().map(|all| all.iter().map(of).collect::<Vec<_>>())
        };
        let content = ["string", "part", "array"].map(str::to_owned).to_vec();
        assert_eq!(types(&schemas["ItemContent"]), Some(content));
        let reference = "#/components/schemas/ItemContent";
        for (schema, key) in [
            ("Message", "content"),
            ("ItemObject", "content"),
            ("MixedInput", "content"),
            ("MultimodalInput", "content"),
        ] {
            let content = schemas[schema]["properties"][key].to_string();
            assert!(content.contains(reference), "{schema}: {content}");
        }
        let lists = ["array", "array"].map(str::to_owned).to_vec();
        assert_eq!(types(&schemas["Conversations"]), Some(lists));
        let messages = schemas["VllmChatBody"]["properties"]["messages"].to_string();
        assert!(messages.contains("#/components/schemas/Conversations"), "{messages}");
        let keys = schemas["ItemObject"]["properties"].as_object().expect("keys");
        for key in ["text", "image", "video", "image_url", "url", "bytes", "type", "messages"] {
            assert!(keys.contains_key(key), "{key}");
        }
    }

    #[test]
    fn every_operation_names_its_statuses() {
        let document: Value = serde_json::from_str(&super::openapi_json()).expect("JSON");
        let statuses = |path: &str, method: &str| -> Vec<String> {
            let responses = &document["paths"][path][method]["responses"];
            responses.as_object().expect("responses").keys().cloned().collect()
        };
        let of_tei = [
            "200", "400", "401", "403", "404", "408", "413", "415", "422", "424", "429", "500",
            "501", "502", "503",
        ];
        assert_eq!(statuses("/embed", "post"), of_tei);
        let of_openai = [
            "200", "400", "401", "403", "404", "408", "413", "415", "429", "500", "501", "502",
            "503",
        ];
        assert_eq!(statuses("/v1/embeddings", "post"), of_openai);
        assert_eq!(statuses("/health", "get"), ["200", "400", "403", "500", "501", "503"]);
        let models = ["200", "400", "401", "403", "404", "500", "501", "503"];
        assert_eq!(statuses("/v1/models/{id}", "get"), models);
        let body = |path: &str| {
            let schema = "/responses/429/content/application~1json/schema/$ref";
            let place = format!("/paths/{}/post{schema}", path.replace('/', "~1"));
            document.pointer(&place).and_then(Value::as_str).map(str::to_owned)
        };
        for (path, name) in [
            ("/embed", "ErrorBody"),
            ("/v1/embeddings", "OpenAiErrorBody"),
            ("/v1/rerank", "JinaErrorBody"),
            ("/v2/embed", "CohereErrorBody"),
            ("/v1/multimodalembeddings", "VoyageErrorBody"),
            ("/score", "VllmErrorBody"),
            ("/vectors", "WeaviateErrorBody"),
        ] {
            assert_eq!(body(path), Some(format!("#/components/schemas/{name}")), "{path}");
        }
    }

    #[test]
    fn the_committed_document_is_the_served_one() {
        let committed = include_str!("../../openapi/openapi.json");
        assert!(
            committed == super::openapi_json(),
            "openapi/openapi.json is out of date: run `make openapi`"
        );
    }
}
