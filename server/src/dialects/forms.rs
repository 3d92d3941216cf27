//! OpenAPI schemas of values that are accepted in several forms.
//!
//! Must not know: how they are read.

use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::inputs::{Inputs, OneInput, PromptTokens};
use super::items::{ItemContent, ItemObject};
use super::ranking::{Document, Documents};
use super::schema::{Schemas, add, named, some, text, token_id};

impl ToSchema for OneInput {
    fn schemas(schemas: &mut Schemas) {
        add::<ItemObject>(schemas);
    }
}

impl PartialSchema for OneInput {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(text("A text."))
            .item(some(token_id(), "Token ids, used as they are."))
            .item(named::<ItemObject>())
            .description(Some("A text, token ids, or an object of several parts."))
            .into()
    }
}

impl ToSchema for Inputs {
    fn schemas(schemas: &mut Schemas) {
        add::<OneInput>(schemas);
    }
}

impl PartialSchema for Inputs {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(named::<OneInput>())
            .item(some(
                named::<OneInput>(),
                "Several, at most as many as the server accepts at once.",
            ))
            .description(Some("One input or several."))
            .into()
    }
}

impl ToSchema for Document {
    fn schemas(schemas: &mut Schemas) {
        add::<ItemObject>(schemas);
    }
}

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(text("A text."))
            .item(named::<ItemObject>())
            .item(record())
            .item(
                ArrayBuilder::new()
                    .items(named::<ItemObject>())
                    .description(Some("Only the parts of `content`.")),
            )
            .description(Some("A query or a document."))
            .into()
    }
}

/// A database record as a document: with a `text`, or without one and with a `content`.
fn record() -> AnyOfBuilder {
    let texts = AnyOfBuilder::new()
        .item(text("Its text."))
        .item(ArrayBuilder::new().items(text("A text.")).description(Some("Its texts.")));
    let with_text = ObjectBuilder::new().property("text", texts).required("text");
    let no_text = ObjectBuilder::new().schema_type(Type::Null).description(Some("None."));
    let with_content = ObjectBuilder::new()
        .property("content", named::<ItemContent>())
        .required("content")
        .property("text", no_text);
    let told = "Its other keys have no effect, except images, videos and the fields that \
                `rank_fields` names.";
    AnyOfBuilder::new()
        .item(with_text.description(Some(format!("A document with its text. {told}"))))
        .item(with_content.description(Some(format!("A document with its content. {told}"))))
        .description(Some("A database record as a document."))
}

impl ToSchema for Documents {
    fn schemas(schemas: &mut Schemas) {
        add::<Document>(schemas);
        add::<ItemObject>(schemas);
    }
}

impl PartialSchema for Documents {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(some(
                named::<Document>(),
                "Several, at most as many as the server accepts at once.",
            ))
            .item(named::<ItemObject>())
            .item(record())
            .description(Some("A list of documents, or one document that is an object."))
            .into()
    }
}

impl ToSchema for PromptTokens {}

impl PartialSchema for PromptTokens {
    fn schema() -> RefOr<Schema> {
        let integer = || ObjectBuilder::new().schema_type(Type::Integer);
        AnyOfBuilder::new()
            .item(integer().minimum(Some(1)).description(Some("Tokens.")))
            .item(integer().enum_values(Some([-1])).description(Some("The model's limit.")))
            .description(Some("A number of tokens, or -1 for the model's limit."))
            .into()
    }
}
