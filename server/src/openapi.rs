//! The OpenAPI document, made of the types that read and write the bodies.
//!
//! Must not know: what any part of it says.

use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::dialects;

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
    }
    let posts = document.paths.paths.values_mut().filter_map(|item| item.post.as_mut());
    posts.for_each(say_failures_of_all);
    let json = document.to_pretty_json().expect("the document is plain data");
    format!("{json}\n")
}

/// Failures that every operation with a body may have, and what they say.
const FAILURES_OF_ALL: [(&str, &str); 4] = [
    ("408", "The body came too slowly"),
    ("413", "The body, or the answer, is larger than the limit"),
    ("429", "Too much load; `Retry-After` says when to come back"),
    ("503", "The model is not ready or the server stops; `Retry-After` says when to come back"),
];

/// Says the failures that come before a dialect sees a request, in the shape of the dialect's own.
fn say_failures_of_all(post: &mut Operation) {
    let responses = &mut post.responses.responses;
    let own = responses.iter().find(|(status, _)| status.starts_with('4'));
    let Some((_, RefOr::T(own))) = own.map(|(status, own)| (status.clone(), own.clone())) else {
        return;
    };
    for (status, description) in FAILURES_OF_ALL {
        let own = RefOr::T(own.clone());
        if let RefOr::T(said) = responses.entry(status.into()).or_insert(own) {
            said.description = description.into();
        }
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
    fn failures_of_all_operations_have_the_shape_of_their_dialects() {
        let document: Value = serde_json::from_str(&super::openapi_json()).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let posts = paths.iter().filter_map(|(path, item)| Some((path, item.get("post")?)));
        let schema = |post: &Value, status: &str| {
            let response = &post["responses"][status];
            assert!(!response.is_null(), "{status} of {post}");
            response["content"]["application/json"]["schema"].clone()
        };
        for (path, post) in posts {
            let statuses = post["responses"].as_object().expect("responses").keys();
            let own = statuses.into_iter().find(|it| *it == "400" || *it == "422");
            let own = schema(post, own.expect("a body may be wrong"));
            for status in ["408", "413", "429", "503"] {
                assert_eq!(schema(post, status), own, "{status} of {path}");
            }
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
