//! The OpenAPI document, generated from the list of routes and the types of the bodies.
//!
//! Must not know: what bodies contain.

mod examples;
mod failures;
mod headers;

use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, ComponentsBuilder};

use crate::dialects::{self, shared};
use crate::http::{self, Listed, needs_no_key};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Proxima",
        description = "Embeddings, sparse vectors, classes and rankings over HTTP, in the formats \
            of several APIs. Unlisted keys of a body are ignored, except keys that would \
            have an effect at another path and a list of misspellings, which are refused.",
    ),
    servers((url = "/", description = "this server")),
    tags(
        (name = "tei", description = "text-embeddings-inference"),
        (name = "openai", description = "OpenAI's embeddings"),
        (name = "cohere", description = "Cohere's embeddings and rankings"),
        (name = "jina", description = "Jina's rankings, whose paths other dialects share"),
        (name = "vllm", description = "vLLM's scores"),
        (name = "voyage", description = "Voyage's embeddings of texts, images and videos"),
        (name = "weaviate", description = "What Weaviate's modules call"),
        (name = "server", description = "Health, metrics and this document"),
    ),
)]
struct RootApi;

/// Aliases of keys: a schema, its key, the aliases.
const OTHER_NAMES: [(&str, &str, &[&str]); 15] = [
    ("TeiRerankBody", "return_text", &["return_documents"]),
    ("TeiRerankBody", "instruction", &["instruct"]),
    ("JinaRerankBody", "truncate", &["truncation"]),
    ("JinaRerankBody", "instruction", &["instruct"]),
    ("CohereRerankBody", "instruction", &["instruct"]),
    ("VoyageRerankBody", "instruction", &["instruct"]),
    ("VllmRerankBody", "instruction", &["instruct"]),
    ("JinaEmbeddingsBody", "normalized", &["normalize"]),
    ("JinaEmbeddingsBody", "embedding_type", &["encoding_type", "encoding_format"]),
    ("VoyageEmbeddingsBody", "truncation", &["truncate"]),
    ("VoyageEmbeddingsBody", "output_dimension", &["dimensions"]),
    ("VoyageMultimodalBody", "output_dimension", &["dimensions"]),
    ("CohereEmbedBody", "output_dimension", &["dimensions"]),
    ("ScoreBody", "queries", &["text_1", "data_1"]),
    ("ScoreBody", "documents", &["text_2", "data_2", "items"]),
];

/// The document of these routes, as pretty-printed JSON.
///
/// # Panics
/// Never: the document is plain data.
pub fn openapi_json(routes: &[Listed]) -> String {
    let json = serde_json::to_string_pretty(&document(routes)).expect("the document is plain data");
    format!("{json}\n")
}

fn document(routes: &[Listed]) -> Value {
    let mut described = RootApi::openapi();
    described.components = Some(security(described.components.take().unwrap_or_default()));
    described.merge(http::ServiceApi::openapi());
    described.merge(shared::SharedApi::openapi());
    dialects::all().iter().for_each(|dialect| described.merge((dialect.openapi)()));
    let mut document = serde_json::to_value(described).expect("the document is plain data");
    let described = document["paths"].take();
    let mut paths = Map::new();
    for route in routes {
        let operation = operation(route, &described[shown(route.described)][route.method]);
        let path = paths.entry(shown(route.path)).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    document["paths"] = Value::Object(paths);
    headers::describe(&mut document["components"]);
    examples::add(&mut document["paths"], routes);
    any_of(&mut document);
    for (schema, key, others) in OTHER_NAMES {
        let properties = &mut document["components"]["schemas"][schema]["properties"];
        for other in others {
            properties[other] = properties[key].clone();
        }
    }
    document
}

/// Adds the security scheme of API keys.
fn security(components: Components) -> Components {
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(
        "One of the server's API keys; it is also accepted without the word `Bearer`. A server \
         without keys requires none.",
    ));
    ComponentsBuilder::from(components)
        .security_scheme("bearer", SecurityScheme::Http(bearer.build()))
        .build()
}

/// A path in OpenAPI's syntax.
fn shown(path: &str) -> String {
    path.replace("{*", "{")
}

/// A unique operation id.
fn operation_id(route: &Listed) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    match words[..] {
        [] => format!("{}_root", route.method),
        _ => words.join("_"),
    }
}

/// The operation of a route, based on the description of its handler.
fn operation(route: &Listed, described: &Value) -> Value {
    let mut operation = described.clone();
    let (path, method) = (route.path, route.method);
    operation["operationId"] = operation_id(route).into();
    let public = needs_no_key(path) || (path == "/" && method == "get");
    operation["security"] = if public { json!([]) } else { json!([{ "bearer": [] }]) };
    let parts = shared::parts(path);
    if !parts.is_empty() {
        operation["tags"] = json!([dialects::owner(path).name]);
        let bodies = parts.iter().map(|(_, part)| part.body);
        operation["requestBody"] = json!({ "content": content(bodies), "required": true });
        let answers = parts.iter().flat_map(|(_, part)| part.answers).copied();
        operation["responses"]["200"]["content"] = content(answers);
    }
    let of_parts: Vec<_> = parts.into_iter().map(|(dialect, _)| dialect).collect();
    failures::add(&mut operation["responses"], route, &of_parts);
    headers::add(&mut operation["responses"], route);
    operation
}

/// A JSON body of one of these schemas.
fn content<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    let reference = |name| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut all: Vec<Value> = names.into_iter().map(reference).collect();
    let schema = if all.len() == 1 { all.swap_remove(0) } else { json!({ "anyOf": all }) };
    json!({ "application/json": { "schema": schema } })
}

/// Replaces `oneOf` with `anyOf`: a value is read as the first schema that fits, so one that fits
/// several is valid, which `oneOf` would rule out.
fn any_of(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(forms) = object.remove("oneOf") {
                object.insert("anyOf".to_owned(), forms);
            }
            object.values_mut().for_each(any_of);
        }
        Value::Array(values) => values.iter_mut().for_each(any_of),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
