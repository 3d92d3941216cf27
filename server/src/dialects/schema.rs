//! Building blocks of OpenAPI schemas, with their minimum and maximum values.
//!
//! Must not know: which types they describe.

use proxima_models::recipes::TEXT_BYTES_MAX;
use utoipa::ToSchema;
use utoipa::openapi::schema::ArrayItems;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema, Type};

/// Schemas with their names.
pub type Schemas = Vec<(String, RefOr<Schema>)>;

/// Adds a schema that others refer to, and those that it refers to.
pub fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}

/// A reference to a schema by name.
pub fn named<T: ToSchema>() -> Ref {
    Ref::from_schema_name(T::name())
}

/// A text of at most the size that tokenizers accept. That limit is in bytes, `maxLength` in
/// characters: longer texts are always refused, and a text of this length is accepted only if its
/// characters are single bytes.
pub fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(TEXT_BYTES_MAX))
        .description(Some(description))
}

/// A token id of any vocabulary.
pub fn token_id() -> ObjectBuilder {
    let integer = ObjectBuilder::new().schema_type(Type::Integer);
    integer.minimum(Some(0_u32)).maximum(Some(u32::MAX))
}

/// A list of at least one item.
pub fn some(items: impl Into<ArrayItems>, description: &str) -> ArrayBuilder {
    ArrayBuilder::new().items(items).min_items(Some(1)).description(Some(description))
}
