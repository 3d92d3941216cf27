//! OpenAPI schemas of items. Items are parsed by hand, so that errors name the item.
//!
//! Must not know: how items are read.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use utoipa::openapi::schema::{ArrayItems, OneOfBuilder, SchemaType};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::parts::{FILE_KEYS, IMAGES, TEXTS, VIDEOS};
use super::pending::Object;
use super::unique::object;
use crate::dialects::schema::{Schemas, add, named};

/// The object of a multi-part input, as it was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ItemObject(pub Object);

impl<'de> Deserialize<'de> for ItemObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = ItemObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, such as {\"text\": \"...\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ItemObject, A::Error> {
                object(map).map(ItemObject)
            }
        }
        deserializer.deserialize_map(ItemVisitor)
    }
}

/// The value of `content`: a text, or parts.
#[derive(Debug)]
pub struct ItemContent;

/// A part of `content`.
#[derive(Debug)]
pub struct ContentPart;

/// A message of a conversation.
#[derive(Debug)]
pub struct Message;

/// A conversation, or a list of conversations.
#[derive(Debug)]
pub struct Conversations;

/// One image, or one file of a video.
const FILE: &str = "a data URI, base64, a URL of an allowed host, or an object with its `url` or \
     its `bytes` in base64";

fn any(description: impl Into<String>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(description))
}

fn typed(kind: Type, description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind).description(Some(description))
}

/// A value that may be `null`, which counts as absent.
fn optional(kind: Type, description: &str) -> ObjectBuilder {
    any(description).schema_type(SchemaType::from_iter([kind, Type::Null]))
}

fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn list(items: impl Into<ArrayItems>) -> ArrayBuilder {
    ArrayBuilder::new().items(items)
}

fn sampled(object: ObjectBuilder) -> ObjectBuilder {
    let frames = optional(Type::Integer, "Maximum number of frames taken from a video file")
        .minimum(Some(1));
    object
        .property(
            "fps",
            optional(Type::Number, "Frames taken per second of a video file")
                .exclusive_minimum(Some(0)),
        )
        .property("max_frames", frames)
}

impl ToSchema for ItemObject {
    fn schemas(schemas: &mut Schemas) {
        add::<ItemContent>(schemas);
        add::<Message>(schemas);
    }
}

impl PartialSchema for ItemObject {
    fn schema() -> RefOr<Schema> {
        let video = "A list of images is one video of frames; a list of lists or of videos is \
             several; anything else is one file";
        let text = OneOfBuilder::new()
            .item(typed(Type::String, "One"))
            .item(list(typed(Type::String, "A text")))
            .item(null())
            .description(Some("A text or a list of texts"));
        let content = OneOfBuilder::new().item(named::<ItemContent>()).item(null());
        let messages = list(named::<Message>())
            .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
            .description(Some("A conversation, instead of the other keys"));
        let image = format!("An image or a list of images: {FILE}");
        let object = ObjectBuilder::new()
            .description(Some(
                "Texts, images and videos that form one input, in this order: videos, images, \
                 texts. Or `content`, whose parts keep their order, or `messages`, or one part \
                 with its `type`. Other keys are refused, except next to the text of a document.",
            ))
            .property("text", text)
            .property("image", any(image.clone()))
            .property("video", any(format!("{video}: {FILE}")))
            .property("content", content)
            .property("messages", messages)
            .property(
                "instruction",
                optional(
                    Type::String,
                    "Instruction for this input, instead of that of the request; for documents \
                     only if they are ranked by their own vectors",
                ),
            )
            .property(
                "title",
                optional(
                    Type::String,
                    "Title of a document to embed, for models whose prompt for documents has room \
                     for one (EmbeddingGemma); a title beside the text of a document to rank is \
                     ignored",
                ),
            )
            .property("type", kinds());
        let object = FILE_KEYS.iter().fold(object, |object, key| {
            object.property(*key, any(format!("The same as `image`. {image}")))
        });
        sampled(files(object, &["image", "video"])).into()
    }
}

/// The types of parts.
fn kinds() -> ObjectBuilder {
    let kinds = TEXTS.iter().chain(&IMAGES).chain(&VIDEOS).map(|kind| Some(*kind));
    let kinds = kinds.chain([None]).map(Value::from);
    optional(Type::String, "Type of the part").enum_values(Some(kinds))
}

/// Adds the keys of images and videos, except some.
fn files(object: ObjectBuilder, without: &[&str]) -> ObjectBuilder {
    let names = IMAGES.iter().chain(&VIDEOS).filter(|name| !without.contains(name));
    names.fold(object, |object, name| {
        let frames = if *name == "video" { "A list of images, the frames, or one" } else { "One" };
        object.property(*name, any(format!("{frames} file: {FILE}")))
    })
}

impl ToSchema for ItemContent {
    fn schemas(schemas: &mut Schemas) {
        add::<ContentPart>(schemas);
    }
}

impl PartialSchema for ItemContent {
    fn schema() -> RefOr<Schema> {
        let part =
            OneOfBuilder::new().item(named::<ContentPart>()).item(typed(Type::String, "A text"));
        let content = OneOfBuilder::new()
            .item(typed(Type::String, "A text"))
            .item(named::<ContentPart>())
            .item(list(part).description(Some("Parts in their order")))
            .description(Some("A text, a part, or a list of parts"));
        content.into()
    }
}

impl ToSchema for ContentPart {}

impl PartialSchema for ContentPart {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .description(Some(
                "A text under `text`, or an image or a video under the name of its type. Without a \
                 type, the name determines it.",
            ))
            .property("type", kinds())
            .property("text", typed(Type::String, "The text"));
        sampled(files(object, &[])).into()
    }
}

impl ToSchema for Message {
    fn schemas(schemas: &mut Schemas) {
        add::<ItemContent>(schemas);
    }
}

impl PartialSchema for Message {
    fn schema() -> RefOr<Schema> {
        let roles = ["system", "developer", "user", "assistant"];
        let roles = typed(Type::String, "Role of its author").enum_values(Some(roles));
        let object = ObjectBuilder::new()
            .description(Some(
                "A user message is the input. A system message before it is the instruction. An \
                 assistant message after it must be empty.",
            ))
            .property("role", roles)
            .required("role")
            .property("content", named::<ItemContent>());
        object.into()
    }
}

impl ToSchema for Conversations {
    fn schemas(schemas: &mut Schemas) {
        add::<Message>(schemas);
    }
}

impl PartialSchema for Conversations {
    fn schema() -> RefOr<Schema> {
        let several = OneOfBuilder::new()
            .item(list(named::<Message>()).description(Some("A conversation")))
            .item(list(list(named::<Message>())).description(Some("Conversations, each an input")))
            .description(Some("A conversation, or a list of conversations"));
        several.into()
    }
}
