//! Templates against transformers and its Jinja2: `tests/reference/make_templates.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{STEPS_MAX, Template, TemplateInput, Value};

fn chat(messages: Vec<Value>, tokens: &BTreeMap<String, String>) -> TemplateInput<'_> {
    let bytes = messages.iter().map(|message| message.to_string().len()).sum();
    TemplateInput { messages, bytes, add_generation_prompt: false, tokens }
}

/// A message with its keys in the order in which the reference has them.
fn message(json: &serde_json::Value) -> Value {
    let content = match &json["content"] {
        serde_json::Value::Array(parts) => {
            let part = |part: &serde_json::Value| {
                Value::from_pairs(["type", "text"].map(|key| (key, part[key].as_str())))
            };
            parts.iter().map(part).collect()
        }
        text => Value::from(text.as_str()),
    };
    Value::from_pairs([("role", Value::from(json["role"].as_str())), ("content", content)])
}

#[test]
fn templates_equal_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/templates.json");
    let text = fs::read_to_string(path).expect("a golden file");
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    assert!(cases.len() > 25, "{} cases", cases.len());
    for case in cases {
        let source = case["template"].as_str().expect("a template");
        let messages = case["messages"].as_array().expect("messages").iter().map(message).collect();
        let rendered = Template::new(source)
            .and_then(|template| template.render(chat(messages, &BTreeMap::new())));
        assert_eq!(
            rendered.as_deref(),
            Ok(case["rendered"].as_str().expect("a text")),
            "{source:?}"
        );
    }
}

#[test]
fn what_would_be_rendered_otherwise_fails() {
    for source in [
        "{{ 'a' | escape }}",
        "{{ 'a' | title }}",
        "{{ 'a'.title() }}",
        "{{ '½'.isdigit() }}",
        "{{ 2.5 | round }}",
        "{{ 'a\nb' | indent }}",
        "{{ {} | attr('a') }}",
        "{{ 1e16 }}",
        "{{ 0.00001 }}",
        "{{ [1] }}",
        "{{ {'a': 1} }}",
        "{{ 'a' | tojson(indent=2) }}",
        "{{ 'a' | tojson(ensure_ascii=true) }}",
        "{{ 'a b c'.split(none, 1) }}",
        "{% autoescape true %}{{ 'a' }}{% endautoescape %}",
    ] {
        let rendered = Template::new(source)
            .and_then(|template| template.render(chat(vec![], &BTreeMap::new())));
        assert!(rendered.is_err(), "{source}: {rendered:?}");
    }
}

#[test]
fn steps_are_limited_by_the_length_of_the_texts() {
    let words = "{% for word in messages[0].split() %}{{ loop.index }}{% endfor %}";
    let template = Template::new(words).expect("parsed");
    let tokens = BTreeMap::new();
    let long = Value::from("a word ".repeat(usize::try_from(STEPS_MAX).expect("small") / 4));
    template.render(chat(vec![long], &tokens)).expect("rendered");
    let nested = "{% for a in messages[0] %}{% for b in messages[0] %}{% endfor %}{% endfor %}";
    let template = Template::new(nested).expect("parsed");
    let long = Value::from("a".repeat(100_000));
    template.render(chat(vec![long], &tokens)).expect_err("too many steps");
}
