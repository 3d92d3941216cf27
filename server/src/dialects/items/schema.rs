//! What the OpenAPI document says of items; they are read by hand, so that what is wrong with one
//! is said in a sentence that names it.
//!
//! Must not know: how items are read.

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::draft::Object;

/// The object of an input of several parts, as it was sent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ItemObject(pub Object);

/// A part of `content`.
#[derive(Debug)]
pub struct ContentPart;

/// A message of a conversation.
#[derive(Debug)]
pub struct Message;

/// One image, or one file of a video.
const FILE: &str = "a data URI, base64, a URL of an allowed host, or an object with its `url` or \
     its `bytes` in base64";

const KINDS: [&str; 10] = [
    "text",
    "input_text",
    "image_url",
    "image",
    "image_base64",
    "input_image",
    "video_url",
    "video",
    "video_base64",
    "input_video",
];

fn any(description: impl Into<String>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(description))
}

fn typed(kind: Type, description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind).description(Some(description))
}

/// A list of parts.
fn parts(description: &str) -> ArrayBuilder {
    let part = Ref::from_schema_name(ContentPart::name());
    ArrayBuilder::new().items(part).description(Some(description))
}

fn sampled(object: ObjectBuilder) -> ObjectBuilder {
    let frames = typed(Type::Integer, "Frames taken of a video file at most").minimum(Some(1));
    object
        .property("fps", typed(Type::Number, "Frames taken of each second of a video file"))
        .property("max_frames", frames)
}

type Schemas = Vec<(String, RefOr<Schema>)>;

/// Adds the schema of parts, which others name.
fn with_parts(schemas: &mut Schemas) {
    schemas.push((ContentPart::name().into(), ContentPart::schema()));
}

impl ToSchema for ItemObject {
    fn schemas(schemas: &mut Schemas) {
        with_parts(schemas);
    }
}

impl PartialSchema for ItemObject {
    fn schema() -> RefOr<Schema> {
        let video = "A list of images is one video of frames; a list of lists or of videos is \
             several; anything else is one file";
        let object = ObjectBuilder::new()
            .description(Some(
                "Texts, images and videos that are one input together, in this order: videos, \
                 images, texts. Or `content`, whose parts keep their order. No other key.",
            ))
            .property("text", any("A text or a list of texts"))
            .property("image", any(format!("An image or a list of images: {FILE}")))
            .property("video", any(format!("{video}: {FILE}")))
            .property("content", parts("Parts in their order, or a text; instead of the others"))
            .property(
                "instruction",
                typed(Type::String, "Of this input alone, before that of the request"),
            );
        sampled(object).into()
    }
}

impl ToSchema for ContentPart {}

impl PartialSchema for ContentPart {
    fn schema() -> RefOr<Schema> {
        let kinds = typed(Type::String, "What it is").enum_values(Some(KINDS));
        let object = ObjectBuilder::new()
            .description(Some(
                "A text under `text`, or an image or a video under the name of its type.",
            ))
            .property("type", kinds)
            .required("type")
            .property("text", typed(Type::String, "The text"));
        // The first two are texts.
        let object = KINDS[2..].iter().fold(object, |object, kind| {
            let frames =
                if *kind == "video" { "A list of images, the frames, or one" } else { "One" };
            object.property(*kind, any(format!("{frames} file: {FILE}")))
        });
        sampled(object).into()
    }
}

impl ToSchema for Message {
    fn schemas(schemas: &mut Schemas) {
        with_parts(schemas);
    }
}

impl PartialSchema for Message {
    fn schema() -> RefOr<Schema> {
        let roles = ["system", "user", "assistant"];
        let roles = typed(Type::String, "Whose it is").enum_values(Some(roles));
        let object = ObjectBuilder::new()
            .description(Some(
                "One of the user is the input. One of the system before it is the instruction. \
                 One of the assistant after it must be empty.",
            ))
            .property("role", roles)
            .required("role")
            .property("content", parts("Parts, or a text"));
        object.into()
    }
}
