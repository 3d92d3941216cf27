//! OpenAPI schemas of `/`, which does whatever the models are for, and of one or two texts.
//!
//! Must not know: how they are read.

use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ArrayBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::types::{
    EmbedBody, Ids, PredictBody, PredictInputs, Predictions, Ranks, RerankBody, Texts,
};
use crate::dialects::schema::{Schemas, add, named, some, text, token_id};
use crate::encoding::EncodedVector;

/// What `/` takes.
#[derive(Debug)]
pub enum DefaultBody {}

impl ToSchema for DefaultBody {
    fn schemas(schemas: &mut Schemas) {
        add::<EmbedBody>(schemas);
        add::<RerankBody>(schemas);
        add::<PredictBody>(schemas);
    }
}

impl PartialSchema for DefaultBody {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(named::<EmbedBody>())
            .item(named::<RerankBody>())
            .item(named::<PredictBody>())
            .description(Some("A body of `/embed`, `/rerank` or `/predict`."))
            .into()
    }
}

/// What `/` answers.
#[derive(Debug)]
pub enum DefaultAnswer {}

impl ToSchema for DefaultAnswer {
    fn schemas(schemas: &mut Schemas) {
        add::<EncodedVector>(schemas);
        add::<Ranks>(schemas);
        add::<Predictions>(schemas);
    }
}

impl PartialSchema for DefaultAnswer {
    fn schema() -> RefOr<Schema> {
        let vectors = ArrayBuilder::new().items(named::<EncodedVector>());
        AnyOfBuilder::new()
            .item(vectors.description(Some("One vector per input.")))
            .item(named::<Ranks>())
            .item(named::<Predictions>())
            .description(Some("An answer of `/embed`, `/rerank` or `/predict`."))
            .into()
    }
}

impl ToSchema for PredictInputs {}

impl PartialSchema for PredictInputs {
    fn schema() -> RefOr<Schema> {
        let texts = || some(text("A text."), "A text, or a pair of texts.").max_items(Some(2));
        AnyOfBuilder::new()
            .item(text("A text."))
            .item(texts())
            .item(some(texts(), "Several."))
            .description(Some("A text, a pair of texts, or a list of lists of one text or two."))
            .into()
    }
}

impl ToSchema for Texts {}

impl PartialSchema for Texts {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(text("One."))
            .item(some(text("A text."), "Several."))
            .description(Some("One text or several."))
            .into()
    }
}

impl ToSchema for Ids {}

impl PartialSchema for Ids {
    fn schema() -> RefOr<Schema> {
        let list = ArrayBuilder::new().items(token_id());
        AnyOfBuilder::new()
            .item(some(token_id(), "Of one text."))
            .item(some(list, "Of several."))
            .description(Some("Token ids of one text or several."))
            .into()
    }
}
