//! Notations of items, and the items they become.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt as _;
use proxima_models::{Content, Item, Part, VideoSource};
use serde_json::{Value, json};

use super::*;
use crate::media::{MediaFetcher, MediaSettings};

fn object(json: Value) -> Object {
    match json {
        Value::Object(object) => object,
        other => panic!("not an object: {other}"),
    }
}

fn data(text: &str) -> String {
    format!("data:image/png;base64,{}", base64(text))
}

fn base64(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

async fn resolved(item: Item<Source>) -> Result<Item, String> {
    let media = Arc::new(MediaFetcher::new(&MediaSettings::default()));
    let pending = vec![(Name::Input(3), Content::Item(Arc::new(item)))];
    match resolve(&media, pending).await.map_err(|failure| failure.to_string())?.pop() {
        Some(Content::Item(item)) => Ok(Arc::unwrap_or_clone(item)),
        other => panic!("no item: {other:?}"),
    }
}

/// An item in short: texts as they are, images in square brackets, videos in angle brackets.
fn written(item: &Item) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let parts = item.parts.iter().map(|part| match part {
        Part::Text(text) => text.to_string(),
        Part::Image(file) => format!("[{}]", text(file.bytes())),
        Part::Video(video) => {
            let source = match &video.source {
                VideoSource::File(file) => format!("file {}", text(file.bytes())),
                VideoSource::Frames(frames) => {
                    let frames = frames.iter().map(|frame| text(frame.bytes()));
                    frames.collect::<Vec<_>>().join(",")
                }
            };
            let fps = video.fps.map(|fps| format!(" fps {fps}")).unwrap_or_default();
            let max = video.frames_max.map(|max| format!(" max {max}")).unwrap_or_default();
            format!("<{source}{fps}{max}>")
        }
    });
    let instruction = item.instruction.iter().map(|text| format!("({text})"));
    let title = item.title.iter().map(|title| format!("{title}:"));
    instruction.chain(title).chain(parts).collect::<Vec<_>>().join(" ")
}

async fn reads(item: Result<Item<Source>, String>, expected: &str, what: &Value) {
    let item = item.unwrap_or_else(|problem| panic!("{what}: {problem}"));
    let item = resolved(item).await.unwrap_or_else(|problem| panic!("{what}: {problem}"));
    assert_eq!(written(&item), expected, "{what}");
}

#[tokio::test]
async fn objects_become_videos_then_images_then_texts() {
    let (a, b) = (data("a"), data("b"));
    let video = format!("data:video/mp4;base64,{}", base64("v"));
    let cases = [
        (json!({ "text": "t" }), "t"),
        (json!({ "text": ["s", "t"], "image": null }), "s t"),
        (json!({ "text": "t", "image": a }), "[a] t"),
        (json!({ "image": [a, { "url": b }] }), "[a] [b]"),
        (json!({ "image": { "bytes": base64("c") } }), "[c]"),
        (json!({ "image": base64("c") }), "[c]"),
        (json!({ "url": a }), "[a]"),
        (json!({ "bytes": base64("c"), "text": "t" }), "[c] t"),
        (json!({ "text": "t", "image": a, "video": video }), "<file v> [a] t"),
        (json!({ "text": "t", "image_url": { "url": a }, "video_url": video }), "<file v> [a] t"),
        (json!({ "image_base64": base64("c"), "image": a }), "[a] [c]"),
        (json!({ "video": [a, b], "fps": 2, "max_frames": 8 }), "<a,b fps 2 max 8>"),
        (json!({ "video": [{ "bytes": base64("c") }, b] }), "<c,b>"),
        (json!({ "video": [{ "url": a }, b] }), "<a,b>"),
        (json!({ "video": [base64("c"), base64("d")] }), "<c,d>"),
        (json!({ "video": [[a, b], [b]] }), "<a,b> <b>"),
        (json!({ "video": [[a, b], video] }), "<a,b> <file v>"),
        (json!({ "video": [video, video] }), "<file v> <file v>"),
        (json!({ "video": [{ "url": video }, [a]] }), "<file v> <a>"),
        (json!({ "video": { "bytes": base64("v") } }), "<file v>"),
        (json!({ "text": "t", "instruction": "i" }), "(i) t"),
        (json!({ "text": "t", "title": "a" }), "a: t"),
        (json!({ "text": "" , "image": a}), "[a] "),
        (json!({ "content": "t" }), "t"),
        (json!({ "content": [{ "type": "text", "text": "t" }], "instruction": "i" }), "(i) t"),
        (json!({ "type": "image_url", "image_url": a }), "[a]"),
        (json!({ "content": [{ "type": "video", "video": [a] }], "fps": 1.5 }), "<a fps 1.5>"),
        (json!({ "messages": [{ "role": "user", "content": "t" }] }), "t"),
    ];
    for (json, expected) in cases {
        reads(read_item(object(json.clone())), expected, &json).await;
    }
}

#[tokio::test]
async fn parts_keep_their_order() {
    let (a, video) = (data("a"), format!("data:video/mp4;base64,{}", base64("v")));
    let cases = [
        (json!([{ "type": "text", "text": "s" }, { "type": "image", "image": a }, "t"]), "s [a] t"),
        (json!([{ "type": "image_url", "image_url": { "url": a, "detail": "low" } }]), "[a]"),
        (json!([{ "type": "image_url", "image_url": a, "uuid": null }]), "[a]"),
        (json!([{ "type": "input_image", "image_url": a, "detail": "auto" }]), "[a]"),
        (json!([{ "type": "input_image", "input_image": a }]), "[a]"),
        (json!([{ "type": "image_base64", "image_base64": a }]), "[a]"),
        (json!([{ "type": "image", "url": a }]), "[a]"),
        (json!([{ "type": "video_url", "video_url": { "url": video } }]), "<file v>"),
        (json!([{ "type": "video_url", "video_url": video }]), "<file v>"),
        (json!([{ "type": "video_base64", "video_base64": video }]), "<file v>"),
        (
            json!([{ "type": "video", "video": [a, a], "fps": 2, "max_frames": 4 }]),
            "<a,a fps 2 max 4>",
        ),
        (json!([{ "text": "s" }, { "image_url": a }, { "video": video }]), "s [a] <file v>"),
    ];
    for (json, expected) in cases {
        let parts = content(json.clone()).map(Item::from);
        reads(parts, expected, &json).await;
    }
}

#[tokio::test]
async fn conversations_are_a_message_and_an_instruction() {
    let user = json!({ "role": "user", "content": [{ "type": "text", "text": "t" }, "u"] });
    let system = json!({ "role": "system", "content": "i" });
    let empty = json!({ "role": "assistant", "content": [{ "type": "text", "text": "" }] });
    let nothing = json!({ "role": "assistant", "content": null });
    let cases = [
        (json!([user]), "t u"),
        (json!([system, user]), "(i) t u"),
        (json!([system, user, empty]), "(i) t u"),
        (json!([user, nothing]), "t u"),
    ];
    for (json, expected) in cases {
        reads(conversation(json.clone()), expected, &json).await;
    }
    let refused = [
        (json!("t"), "messages must be a list"),
        (json!([]), "no user message"),
        (json!([system]), "no user message"),
        (json!([user, user]), "message 1: a second message of role user"),
        (json!([system, system, user]), "message 1: a second message of role system"),
        (
            json!([user, { "role": "assistant", "content": "yes" }]),
            "message 1: an assistant message must be empty",
        ),
        (json!([{ "role": "tool", "content": "yes" }]), "message 0: role \"tool\" is unknown"),
        (json!([{ "content": "yes" }]), "message 0: it has no role"),
        (json!([7]), "message 0: expected an object"),
        (json!([{ "role": "user", "content": 7 }]), "message 0: content must be"),
        (json!([{ "role": "user", "content": [] }]), "no text, image or video"),
        (json!([{ "role": "system", "content": [{ "image": data("a") }] }, user]), "texts only"),
    ];
    for (json, says) in refused {
        let problem = conversation(json.clone()).expect_err("refused");
        assert!(problem.contains(says), "{json}: {problem}");
    }
}

#[test]
fn an_object_with_nothing_is_an_empty_item() {
    for json in [json!({}), json!({ "text": null }), json!({ "image": [] })] {
        let item = read_item(object(json.clone())).expect("an item");
        assert_eq!(item.files().count(), 0, "{json}");
    }
}

#[test]
fn an_invalid_item_is_explained() {
    let a = data("a");
    let cases = [
        (json!({ "content": [] }), "no text, image or video"),
        (json!({ "text": 5 }), "text must be a string"),
        (json!({ "text": ["a", 5] }), "text must be a string"),
        (json!({ "image": 5 }), "image: expected a data URI"),
        (json!({ "image": [a, 5] }), "image: image 1: expected a data URI"),
        (json!({ "image": { "path": "a.png" } }), "the key \"path\" is unknown here"),
        (json!({ "image": { "url": a, "bytes": "b" } }), "expected a data URI"),
        (json!({ "video": [] }), "video is an empty list"),
        (json!({ "video": [[]] }), "video 0: it is an empty list"),
        (json!({ "video": [[a], 7] }), "video 1: expected a data URI"),
        (json!({ "video": [a, [a]] }), "frame 1: expected a data URI"),
        (json!({ "video": 7 }), "video: expected"),
        (json!({ "text": "a", "audio": "b" }), "the key \"audio\" is unknown here"),
        (json!({ "source_sentence": "a", "sentences": ["b"] }), "POST /similarity"),
        (json!({ "text": "a", "content": "b" }), "the key \"text\" is unknown here"),
        (json!({ "text": "a", "fps": 0 }), "fps must be a number above 0"),
        (json!({ "text": "a", "fps": "2" }), "fps must be a number above 0"),
        (json!({ "text": "a", "max_frames": 1.5 }), "max_frames must be a whole number"),
        (json!({ "text": "a", "max_frames": -1 }), "max_frames must be a whole number"),
        (json!({ "text": "a", "instruction": [] }), "instruction must be a string"),
        (json!({ "text": "a", "title": 3 }), "title must be a string"),
        (
            json!({ "content": [{ "type": "image_embeds", "image_embeds": "" }] }),
            "\"image_embeds\" are not supported; use text, image_url",
        ),
        (json!({ "content": [{ "type": "audio_url", "audio_url": {} }] }), "part 0: parts of type"),
        (json!({ "content": [{ "type": 5 }] }), "type of a part must be a string"),
        (json!({ "content": [{ "payload": 5 }] }), "a part needs a type"),
        (json!({ "content": [{ "type": "text" }] }), "needs a string \"text\""),
        (json!({ "content": [{ "type": "image_url" }] }), "needs a key \"image_url\""),
        (
            json!({ "content": [{ "type": "image", "image": a, "min_pixels": 4 }] }),
            "\"min_pixels\" is unknown here",
        ),
        (json!({ "content": [7] }), "part 0: a part must be an object"),
        (json!({ "content": 7 }), "content must be"),
        (json!({ "image": vec![a.clone(); 65] }), "65 images and videos are more than the limit"),
        (json!({ "content": vec!["t"; 1025] }), "1025 parts are more than the limit of 1024"),
        (json!({ "video": vec![a.clone(); 769] }), "769 frames are more than the limit"),
    ];
    for (json, says) in cases {
        let problem = read_item(object(json.clone())).expect_err("refused");
        assert!(problem.contains(says), "{json}: {problem}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_to_be_had_is_named() {
    let large = "?".repeat(100_000);
    let cases = [
        (json!({ "image": [data("a"), "not base64!"] }), "input 3: image 1: "),
        (json!({ "image": [data("a"), large] }), "input 3: image 1: "),
        (json!({ "video": [[data("a")], [data("a"), ""]] }), "input 3: video 1: frame 1: "),
        (json!({ "video": "" }), "input 3: video 0: "),
        (json!({ "image": "https://example.com/a.png" }), "input 3: image 0: "),
    ];
    for (json, says) in cases {
        let item = read_item(object(json)).expect("read");
        let problem = resolved(item).await.expect_err("refused");
        assert!(problem.starts_with(says), "{problem}");
        assert!(problem.len() < 300, "{problem}");
    }
    let large = data(&"a".repeat(200_000));
    let item = resolved(read_item(object(json!({ "image": large }))).expect("read")).await;
    let length = item.map(|item| match &item.parts[..] {
        [Part::Image(file)] => file.bytes().len(),
        other => panic!("not an image: {other:?}"),
    });
    assert_eq!(length, Ok(200_000));
}

#[test]
fn an_address_is_known_by_its_letters_and_fetched_on_the_loop() {
    let spaces = " \n".repeat(100_000);
    let address = format!("{spaces}https://example.com/a.png{spaces}");
    let media = Arc::new(MediaFetcher::new(&MediaSettings::default()));
    for json in [json!({ "image": address }), json!({ "video": [address] })] {
        let item = read_item(object(json)).expect("read");
        let resolving = resolve(&media, vec![(Name::Query, Content::Item(Arc::new(item)))]);
        // There is no runtime, so neither another thread nor the network can be used.
        let failure = resolving.now_or_never().expect("at once").expect_err("refused");
        assert!(failure.to_string().contains("fetches no URLs"), "{failure}");
    }
    let frames = sources::videos(json!([address, "https://example.com/b.png"])).expect("frames");
    assert!(matches!(&frames[..], [VideoSource::Frames(frames)] if frames.len() == 2));
}

#[test]
fn what_is_given_back_has_no_files() {
    let (a, url) = (data("a"), "https://example.com/a.png");
    let cases = [
        (json!({ "text": "t", "image": a }), json!({ "text": "t" })),
        (json!({ "text": "t", "image": url }), json!({ "text": "t", "image": url })),
        (json!({ "image": [a, url] }), json!({ "image": [url] })),
        (json!({ "text": "t", "image_url": a }), json!({ "text": "t" })),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "image": a }] }] }),
            json!({ "messages": [{ "role": "user", "content": [{}] }] }),
        ),
        (json!({ "video": [[a], [{ "url": url }]] }), json!({ "video": [[{ "url": url }]] })),
        (
            json!({ "content": [{ "type": "text", "text": "t" }, { "type": "image_url", "image_url": { "url": a } }] }),
            json!({ "content": [{ "type": "text", "text": "t" }, { "type": "image_url" }] }),
        ),
    ];
    for (json, expected) in cases {
        assert!(has_media(&object(json.clone())) && is_item(&object(json.clone())), "{json}");
        assert_eq!(Value::Object(echo(&object(json.clone()))), expected, "{json}");
    }
    for json in [
        json!({ "text": "t", "url": url, "title": 5 }),
        json!({ "text": "t", "image": null }),
        json!({ "content": [{ "type": "text", "text": "t" }] }),
        json!({ "content": [{ "text": "t" }] }),
        json!({}),
    ] {
        assert!(!has_media(&object(json.clone())), "{json}");
    }
    for (json, item) in [
        (json!({ "text": "t", "url": url, "type": "image", "title": 5 }), false),
        (json!({ "text": "t", "content": "u" }), false),
        (json!({ "title": "t" }), false),
        (json!({ "url": url }), true),
        (json!({ "content": "t" }), true),
        (json!({ "text": "t", "content": ["u"] }), true),
    ] {
        assert_eq!(is_item(&object(json.clone())), item, "{json}");
    }
}
