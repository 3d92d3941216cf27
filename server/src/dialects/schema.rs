//! What schemas of the OpenAPI document are made of, with their least and most.
//!
//! Must not know: which types they describe.

use proxima_models::recipes::TEXT_BYTES_MAX;
use utoipa::ToSchema;
use utoipa::openapi::schema::ArrayItems;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};

/// Schemas with their names.
pub type Schemas = Vec<(String, RefOr<Schema>)>;

/// Adds a schema that others name, and those that it names.
pub fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}

/// A schema by its name.
pub fn named<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// A text, as long as any tokenizer takes it. The limit is one of bytes, a length one of
/// characters: no longer text is taken, and of this length only one of single bytes.
pub fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(TEXT_BYTES_MAX))
        .description(Some(description))
}

/// A token id, of whatever vocabulary.
pub fn token_id() -> ObjectBuilder {
    let integer = ObjectBuilder::new().schema_type(Type::Integer);
    integer.minimum(Some(0_u32)).maximum(Some(u32::MAX))
}

/// A list of at least one.
pub fn some(items: impl Into<ArrayItems>, description: &str) -> ArrayBuilder {
    ArrayBuilder::new().items(items).min_items(Some(1)).description(Some(description))
}
