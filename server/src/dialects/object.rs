//! JSON objects in bodies: an array is never accepted as one; duplicate keys, and keys of closed
//! lists that are misspelt or would change the result elsewhere, are refused by name.
//!
//! serde also reads a struct from an array, field by field: the body `["a"]` would set its first
//! field. A struct that is read from a body therefore has `#[serde(remote = "Self")]` and is listed
//! in `objects!`.
//!
//! Must not know: any particular dialect.

use std::fmt;

use serde::Deserializer;
use serde::de::value::{
    BorrowedBytesDeserializer, BorrowedStrDeserializer, BytesDeserializer, StrDeserializer,
};
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, MapAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::misspelt::{Misspellings, Unread};

/// Implements `Deserialize`, from objects only, for structs with `#[serde(remote = "Self")]`, each
/// with the misspellings of its keys.
macro_rules! objects {
    ($($kind:ty: $misspellings:expr),* $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // This is the derived function, not that of the trait.
                let object = $crate::dialects::object::ObjectOnly::new(deserializer, $misspellings);
                <$kind>::deserialize(object)
            }
        }
    )*};
}

pub(crate) use objects;

/// Implements `Deserialize` for enums with `#[serde(remote = "Self")]` whose variants are words.
/// serde_json alone would report anything but a string as invalid JSON.
macro_rules! words {
    ($($kind:ty),* $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct WordVisitor;
                impl serde::de::Visitor<'_> for WordVisitor {
                    type Value = $kind;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$kind, E> {
                        use serde::de::value::{Error, StrDeserializer};
                        // This is the derived function, not that of the trait.
                        let read = <$kind>::deserialize(StrDeserializer::<Error>::new(word));
                        read.map_err(|error| $crate::dialects::object::unknown_word(word, &error))
                    }
                }
                deserializer.deserialize_any(WordVisitor)
            }
        }
    )*};
}

pub(crate) use words;

words! { crate::encoding::OutputEncoding }

/// The error of a word that is not a variant of an enum; a long one is quoted in part.
pub fn unknown_word<E: de::Error>(word: &str, error: &de::value::Error) -> E {
    let error = error.to_string();
    let expected = error.rsplit_once("`, expected ").map_or("another", |(_, expected)| expected);
    E::custom(format_args!("unknown value {word:.40?}, expected {expected}"))
}

/// Accepts objects of another deserializer, and nothing else.
pub struct ObjectOnly<D> {
    inner: D,
    misspellings: &'static Misspellings,
}

impl<D> ObjectOnly<D> {
    /// Objects of `inner`, with these misspellings of their keys.
    pub fn new(inner: D, misspellings: &'static Misspellings) -> Self {
        Self { inner, misspellings }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let checks = Checks {
            misspellings: self.misspellings,
            fields,
            seen: Vec::new(),
            unread: None,
            elsewhere: None,
            wrong: 0,
            right: 0,
        };
        self.inner.deserialize_map(ObjectVisitor { visitor, checks })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct ObjectVisitor<V> {
    visitor: V,
    checks: Checks,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for ObjectVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let mut checks = self.checks;
        let read = self.visitor.visit_map(CheckedMap { map, checks: &mut checks });
        read.map_err(|error| match checks.unread {
            // serde names the canonical key, which may be in the body under another name.
            Some(key) => de::Error::custom(format_args!(
                "key {key:?} means the same as another key of the body: {error}"
            )),
            None => error,
        })
    }
}

/// The error of a duplicate key.
pub fn duplicate<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("duplicate key {key:.40?}"))
}

/// Tracks the keys of an object.
struct Checks {
    misspellings: &'static Misspellings,
    /// The keys that are read, under all their names; others are ignored.
    fields: &'static [&'static str],
    /// Those of them seen so far.
    seen: Vec<&'static str>,
    /// The last of them, until its value is requested.
    unread: Option<&'static str>,
    /// A key that has an effect elsewhere, until its value is requested.
    elsewhere: Option<&'static Unread>,
    /// One bit per entry of `misspellings.elsewhere`: the misspelling was present.
    wrong: u32,
    /// One bit per entry of `misspellings.elsewhere`: the intended key was present.
    right: u32,
}

impl Checks {
    fn key<E: de::Error>(&mut self, key: &str) -> Result<(), E> {
        if let Some((wrong, meant)) =
            self.misspellings.refused.iter().find(|(misspelt, _)| *misspelt == key)
        {
            return Err(did_you_mean(wrong, meant));
        }
        for (index, (wrong, meant)) in self.misspellings.elsewhere.iter().enumerate() {
            self.wrong |= u32::from(*wrong == key) << index;
            self.right |= u32::from(*meant == key) << index;
        }
        if let Some(key) = self.fields.iter().copied().find(|field| *field == key) {
            if self.seen.contains(&key) {
                return Err(duplicate(key));
            }
            self.seen.push(key);
            self.unread = Some(key);
        } else {
            self.elsewhere = self.misspellings.unread.iter().find(|unread| unread.0 == key);
        }
        Ok(())
    }

    /// At the end of the object: refuses a key of another dialect without its counterpart here.
    fn end<E: de::Error>(&self) -> Result<(), E> {
        let mut entries = self.misspellings.elsewhere.iter().enumerate();
        let found = entries.find(|(index, _)| (self.wrong & !self.right) >> index & 1 == 1);
        found.map_or(Ok(()), |(_, (wrong, meant))| Err(did_you_mean(wrong, meant)))
    }
}

fn did_you_mean<E: de::Error>(wrong: &str, meant: &str) -> E {
    E::custom(format_args!("unknown key `{wrong}`: did you mean `{meant}`?"))
}

struct CheckedMap<'a, A> {
    map: A,
    checks: &'a mut Checks,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for CheckedMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = self.map.next_key_seed(CheckedKey { seed, checks: self.checks })?;
        if key.is_none() {
            self.checks.end()?;
        }
        Ok(key)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.checks.unread = None;
        let Some((key, harmless)) = self.checks.elsewhere.take() else {
            return self.map.next_value_seed(seed);
        };
        // Clients that write all their keys send null for those that are not set.
        let value = self.map.next_value::<Value>()?;
        if value.is_null() || harmless.contains(&value.to_string().as_str()) {
            return seed.deserialize(().into_deserializer());
        }
        Err(de::Error::custom(format_args!("key `{key}` has no effect at this path: leave it out")))
    }

    fn size_hint(&self) -> Option<usize> {
        self.map.size_hint()
    }
}

/// Checks a key before it is passed to its seed.
struct CheckedKey<'a, K> {
    seed: K,
    checks: &'a mut Checks,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for CheckedKey<'_, K> {
    type Value = K::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for CheckedKey<'_, K> {
    type Value = K::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<K::Value, E> {
        self.checks.key(key)?;
        self.seed.deserialize(BorrowedStrDeserializer::new(key))
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<K::Value, E> {
        self.checks.key(key)?;
        self.seed.deserialize(StrDeserializer::new(key))
    }

    // An object that serde buffers to read it twice may have bytes as keys.
    fn visit_borrowed_bytes<E: de::Error>(self, key: &'de [u8]) -> Result<K::Value, E> {
        self.seed.deserialize(BorrowedBytesDeserializer::new(key))
    }

    fn visit_bytes<E: de::Error>(self, key: &[u8]) -> Result<K::Value, E> {
        self.seed.deserialize(BytesDeserializer::new(key))
    }

    fn visit_u64<E: de::Error>(self, key: u64) -> Result<K::Value, E> {
        Err(E::invalid_type(Unexpected::Unsigned(key), &self))
    }
}
