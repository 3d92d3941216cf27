//! The document describes what is served: every route, every body, every status.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::OpenApi;

use crate::{http, router};

/// The names of all schemas that are referenced.
fn named(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(reference) => {
                        names.extend(reference.rsplit('/').next().map(str::to_owned));
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
fn every_route_is_described_and_nothing_else() {
    let document: Value = serde_json::from_str(&router::document()).expect("JSON");
    let of_router: BTreeSet<_> = router::routes()
        .listed()
        .iter()
        .map(|route| format!("{} {}", route.method, super::shown(route.path)))
        .collect();
    assert!(of_router.len() > 30, "{of_router:?}");
    let mut of_document = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            assert!(of_document.insert(format!("{method} {path}")));
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id}");
            for key in ["summary", "tags", "responses", "security"] {
                assert!(!operation[key].is_null(), "{method} {path} has no {key}");
            }
            for (status, answer) in operation["responses"].as_object().expect("responses") {
                let says = answer["description"].as_str().unwrap_or_default();
                assert!(!says.is_empty(), "{method} {path}: {status}");
            }
        }
    }
    assert_eq!(of_document, of_router);
    // Everything described is served: a path that is misspelt there would be left out.
    let mut described = super::RootApi::openapi();
    described.merge(http::ServiceApi::openapi());
    described.merge(crate::dialects::shared::SharedApi::openapi());
    crate::dialects::all().iter().for_each(|dialect| described.merge((dialect.openapi)()));
    let paths: BTreeSet<_> =
        router::routes().listed().iter().map(|route| route.described).collect();
    for path in described.paths.paths.keys() {
        assert!(paths.iter().any(|served| super::shown(served) == *path), "{path} is not served");
    }
}

#[test]
fn shared_paths_take_and_give_what_any_of_their_dialects_does() {
    let document: Value = serde_json::from_str(&router::document()).expect("JSON");
    let names = |path: &str, pointer: &str| -> Vec<String> {
        let content = &document["paths"][path]["post"].pointer(pointer).expect("content");
        let schema = &content["application/json"]["schema"];
        let all = schema["anyOf"].as_array().expect("several").iter();
        all.filter_map(|entry| Some(entry["$ref"].as_str()?.rsplit('/').next()?.to_owned()))
            .collect()
    };
    let bodies =
        ["Weaviate", "Voyage", "Vllm", "Jina", "Tei"].map(|dialect| format!("{dialect}RerankBody"));
    for path in ["/rerank", "/v1/rerank", "/reranking", "/v1/reranking"] {
        assert_eq!(names(path, "/requestBody/content"), bodies, "{path}");
        assert_eq!(names(path, "/responses/200/content").len(), 5, "{path}");
        assert_eq!(names(path, "/responses/400/content").len(), 5, "{path}");
    }
    let of_cohere = ["Weaviate", "Voyage", "Cohere"].map(|dialect| format!("{dialect}RerankBody"));
    assert_eq!(names("/v2/rerank", "/requestBody/content"), of_cohere);
    for path in ["/v1/embeddings", "/embeddings"] {
        assert_eq!(names(path, "/requestBody/content").len(), 4, "{path}");
        // Jina's responses are vectors of inputs or of tokens.
        assert_eq!(names(path, "/responses/200/content").len(), 5, "{path}");
        assert_eq!(names(path, "/responses/400/content").len(), 4, "{path}");
    }
}

#[test]
fn a_key_is_asked_for_where_the_server_asks_for_one() {
    let document: Value = serde_json::from_str(&router::document()).expect("JSON");
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let asked = !operation["security"].as_array().expect("security").is_empty();
            let refused = operation["responses"].get("401").is_some();
            assert_eq!(asked, refused, "{method} {path}");
        }
    }
    assert_eq!(document["paths"]["/"]["get"]["security"], serde_json::json!([]));
    assert_eq!(document["paths"]["/"]["post"]["security"][0]["bearer"], serde_json::json!([]));
}

#[test]
fn every_body_is_one_of_a_path_and_every_name_is_known() {
    let document: Value = serde_json::from_str(&router::document()).expect("JSON");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let mut names = BTreeSet::new();
    named(&document, &mut names);
    let headers = document["components"]["headers"].as_object().expect("headers");
    let is_known = |name: &String| schemas.contains_key(name) || headers.contains_key(name);
    let unknown: Vec<_> = names.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let unused: Vec<_> = headers.keys().filter(|name| !names.contains(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    let bodies = schemas.keys().filter(|name| name.ends_with("Body"));
    let unused: Vec<_> = bodies.filter(|name| !names.contains(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    let pointer = "/paths/~1v1~1embeddings/post/requestBody/content/application~1json/schema";
    let bodies = document.pointer(pointer).map(|schema| schema["anyOf"].clone());
    let names = |list: &Value| list.as_array().map(Vec::len);
    assert_eq!(bodies.as_ref().and_then(names), Some(4), "{bodies:?}");
}

#[test]
fn content_and_messages_are_written_as_they_are_read() {
    let document: Value = serde_json::from_str(&router::document()).expect("JSON");
    let schemas = &document["components"]["schemas"];
    let types = |schema: &Value| {
        let of = |schema: &Value| schema["type"].as_str().unwrap_or("part").to_owned();
        schema["anyOf"].as_array().map(|all| all.iter().map(of).collect::<Vec<_>>())
    };
    let content = ["string", "part", "array"].map(str::to_owned).to_vec();
    assert_eq!(types(&schemas["ItemContent"]), Some(content));
    let reference = "#/components/schemas/ItemContent";
    for (schema, key) in [
        ("Message", "content"),
        ("ItemObject", "content"),
        ("CohereInput", "content"),
        ("VoyageInput", "content"),
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
    let document: Value = serde_json::from_str(&router::document()).expect("JSON");
    let statuses = |path: &str, method: &str| -> Vec<String> {
        let responses = &document["paths"][path][method]["responses"];
        responses.as_object().expect("responses").keys().cloned().collect()
    };
    let of_tei = [
        "200", "400", "401", "403", "404", "408", "413", "415", "422", "424", "429", "500", "501",
        "502", "503",
    ];
    assert_eq!(statuses("/embed", "post"), of_tei);
    let of_openai =
        ["200", "400", "401", "403", "404", "408", "413", "415", "429", "500", "501", "502", "503"];
    assert_eq!(statuses("/v1/embeddings", "post"), of_openai);
    // Texts may be ranked in the format of text-embeddings-inference there, too.
    assert_eq!(statuses("/v1/rerank", "post"), of_tei);
    assert_eq!(statuses("/health", "get"), ["200", "400", "403", "500", "501", "503"]);
    let models = ["200", "400", "401", "403", "404", "500", "501", "503"];
    assert_eq!(statuses("/v1/models/{id}", "get"), models);
    let body = |path: &str| {
        let schema = "/responses/429/content/application~1json/schema/$ref";
        let pointer = format!("/paths/{}/post{schema}", path.replace('/', "~1"));
        document.pointer(&pointer).and_then(Value::as_str).map(str::to_owned)
    };
    for (path, name) in [
        ("/embed", "TeiErrorBody"),
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
    let committed = include_str!("../../../openapi/openapi.json");
    assert!(
        committed == router::document(),
        "openapi/openapi.json is out of date: run `make openapi`"
    );
}
