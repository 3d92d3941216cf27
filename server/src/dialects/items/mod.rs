//! Multi-part inputs, written the same way in every dialect: an object with `text`, `image` and
//! `video`, the `content` of a message, or `messages`.
//!
//! Must not know: any particular dialect.

mod echo;
mod parts;
mod pending;
mod read;
mod resolve;
mod schema;
mod sources;
mod unique;

pub use echo::{echo, echo_part, echo_parts, has_media, is_item};
pub use parts::{content, conversation};
pub use pending::{Object, Sampling, Source, checked};
pub use read::read_item;
pub use resolve::{Name, resolve};
pub use schema::{Conversations, ItemContent, ItemObject};
pub use unique::Unique;

#[cfg(test)]
mod tests;
