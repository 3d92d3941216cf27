//! A fuzzer of request bodies, which it mutates from valid ones: no body may cause a server error.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

/// Maximum bytes of a body; larger ones are not sent.
const BYTES_MAX: usize = 256 * 1024;

/// Random numbers determined by a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// The outcome of a run.
#[derive(Debug, Default)]
pub struct Found {
    /// Bodies that were answered.
    pub answered: u64,
    /// Bodies that were rejected.
    pub refused: u64,
    /// Server errors, with what was sent.
    pub wrong: Vec<String>,
}

/// Sends `bodies` bodies generated from a seed.
pub async fn run(router: &Router, seed: u64, bodies: u64) -> Found {
    let (mut random, mut found, all) = (Random(seed), Found::default(), right());
    for _ in 0..bodies {
        let (path, right) = random.of(&all);
        let mut body = right.clone();
        for _ in 0..=random.below(3) {
            let other = &random.of(&all).1;
            change(&mut body, other, &mut random);
        }
        let mut bytes = body.to_string().into_bytes();
        if random.below(20) == 0 {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, random.below(256) as u8),
                _ => bytes[at] = random.below(256) as u8,
            }
        }
        if bytes.len() > BYTES_MAX {
            continue;
        }
        let request = Request::post(*path).body(Body::from(bytes.clone())).expect("a request");
        let response = router.clone().oneshot(request).await.expect("answered");
        match response.status().as_u16() {
            200 => found.answered += 1,
            // 424 is how text-embeddings-inference reports a failed model.
            424 | 500.. => {
                let sent = String::from_utf8_lossy(&bytes);
                found.wrong.push(format!("{} {path} {sent:.2000}", response.status()));
            }
            _ => found.refused += 1,
        }
    }
    found
}

/// Valid bodies, with their paths.
fn right() -> Vec<(&'static str, Value)> {
    let image = "data:image/gif;base64,R0lGODlhBAADAA==";
    let item = json!({ "text": "a", "image": [image, { "url": image }], "instruction": "i" });
    let video = json!({ "video": [[image], image], "fps": 2.5, "max_frames": 8, "text": ["a"] });
    let parts = json!([
        { "type": "text", "text": "a" },
        { "type": "image_url", "image_url": { "url": image } },
        { "type": "video", "video": [image, image], "fps": 1 },
    ]);
    let content = json!({ "content": parts });
    let messages = json!([
        { "role": "system", "content": "i" },
        { "role": "user", "content": parts },
        { "role": "assistant", "content": "" },
    ]);
    let inputs = json!(["a", [5, 6], item, video, content]);
    // Without token ids, which are rejected where an API does not define whose ids they are.
    let open = json!(["a", item, video, content]);
    let documents = json!([item, "a", content, { "text": "a", "title": 5 }]);
    vec![
        ("/embed", json!({ "inputs": inputs, "truncate": true, "dimensions": 4 })),
        ("/embed_all", json!({ "inputs": item, "prompt_name": "query" })),
        ("/", json!({ "inputs": [video] })),
        ("/vertex", json!({ "instances": [{ "inputs": inputs }] })),
        ("/v1/embeddings", json!({ "input": open, "encoding_format": "base64" })),
        ("/v1/embeddings", json!({ "input": open, "task": "retrieval.query" })),
        ("/v1/embeddings", json!({ "input": open, "input_type": "query" })),
        ("/v1/embeddings", json!({ "messages": messages, "chat_template_kwargs": {} })),
        ("/v1/embeddings", json!({ "messages": [messages, messages] })),
        ("/v2/embed", json!({ "images": [image, image], "input_type": "image" })),
        ("/v1/embed", json!({ "inputs": [content], "embedding_types": ["float", "int8"] })),
        (
            "/v1/multimodalembeddings",
            json!({ "inputs": [content, content], "output_encoding": "base64" }),
        ),
        ("/rerank", json!({ "query": item, "texts": documents, "return_text": true })),
        ("/v1/rerank", json!({ "query": content, "documents": documents, "top_n": 2 })),
        ("/v2/rerank", json!({ "query": "a", "documents": documents, "return_documents": true })),
        ("/v1/rerank", json!({ "query": "a", "documents": documents, "top_k": 2 })),
        ("/rerank", json!({ "query": item, "documents": content, "use_activation": true })),
        ("/score", json!({ "queries": [item, content], "documents": [content, "a"] })),
        ("/score", json!({ "text_1": "a", "data_2": documents, "mm_processor_kwargs": null })),
    ]
}

/// Changes one value of a body.
fn change(body: &mut Value, other: &Value, random: &mut Random) {
    let count = places(body);
    let taken = nth(&mut other.clone(), &mut random.below(places(other))).map(Value::take);
    let Some(place) = nth(body, &mut random.below(count)) else { return };
    let choice = random.below(10);
    let old = place.take();
    *place = match choice {
        0 | 1 => anything(random),
        2 => taken.unwrap_or(Value::Null),
        3 => Value::Array(vec![old]),
        4 => (0..random.below(200)).fold(old, |inner, level| match level % 2 {
            0 => Value::Array(vec![inner]),
            _ => json!({ "content": inner }),
        }),
        5 => {
            let limit = *random.of(&[3, 30, 30, 30, 300, 6000]);
            Value::Array(vec![old; random.below(limit)])
        }
        _ => match old {
            Value::String(text) => Value::String(damaged(text, random)),
            Value::Object(object) => Value::Object(rekeyed(object, random)),
            Value::Array(mut list) => {
                let at = random.below(list.len());
                match random.below(3) {
                    0 => drop(list.drain(at..)),
                    1 => list.insert(at, anything(random)),
                    _ => list.reverse(),
                }
                Value::Array(list)
            }
            Value::Number(_) => anything(random),
            other => other,
        },
    };
}

fn anything(random: &mut Random) -> Value {
    let numbers = [json!(0), json!(-1), json!(1.5), json!(1e300), json!(u64::MAX), json!(20_000)];
    match random.below(8) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 | 3 => random.of(&numbers).clone(),
        4 => json!([]),
        5 => json!({}),
        6 => json!(["a", { "url": "http://127.0.0.1/a.png" }, { "bytes": "AAAA" }]),
        _ => {
            let texts =
                ["", "a", "https://example.com/a.mp4", "data:video/mp4,a", "file:///", "é\u{0}"];
            Value::from(*random.of(&texts))
        }
    }
}

/// A text that is truncated, rotated or repeated, or has a character inserted.
fn damaged(text: String, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let at = random.below(letters.len());
    match random.below(4) {
        0 => letters.truncate(at),
        1 => letters.insert(at, *random.of(&['=', '%', ' ', '\n', 'é', '\u{0}', '"'])),
        2 => letters.rotate_left(at),
        _ => return text.repeat(random.below(40)),
    }
    letters.into_iter().collect()
}

/// An object with a key removed, added or replaced.
fn rekeyed(mut object: Map<String, Value>, random: &mut Random) -> Map<String, Value> {
    let known = [
        "text",
        "image",
        "video",
        "content",
        "messages",
        "type",
        "url",
        "bytes",
        "fps",
        "audio",
        "max_frames",
        "instruction",
        "role",
        "image_url",
        "documents",
        "texts",
        "input",
        "top_k",
    ];
    let keys: Vec<String> = object.keys().cloned().collect();
    let key = keys.get(random.below(keys.len()));
    let value = key.filter(|_| random.below(3) > 0).and_then(|key| object.remove(key));
    if random.below(3) > 0 {
        let value = value.unwrap_or_else(|| anything(random));
        object.insert((*random.of(&known)).to_owned(), value);
    }
    object
}

/// The number of values in a value, including itself.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().take(50).map(places).sum(),
        Value::Object(object) => object.values().map(places).sum(),
        _ => 0,
    }
}

/// The value with this index, in the order in which `places` counts them.
fn nth<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().take(50).find_map(|value| nth(value, place)),
        Value::Object(object) => object.values_mut().find_map(|value| nth(value, place)),
        _ => None,
    }
}
