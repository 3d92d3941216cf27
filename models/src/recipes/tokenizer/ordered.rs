//! JSON objects that keep the order of keys in the file: new tokens get ids in that order.
//!
//! Must not know: tokens.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// An object with ordered keys. As in Python, a key that is set again keeps its position.
#[derive(Debug, Clone)]
pub struct Ordered<T> {
    positions: HashMap<String, usize>,
    entries: BTreeMap<usize, (String, T)>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self { positions: HashMap::new(), entries: BTreeMap::new() }
    }
}

impl<T> Ordered<T> {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&T> {
        let position = self.positions.get(key)?;
        self.entries.get(position).map(|(_, value)| value)
    }

    pub fn insert(&mut self, key: String, value: T) {
        let next = self.entries.last_key_value().map_or(0, |(position, _)| position + 1);
        let position = *self.positions.entry(key.clone()).or_insert(next);
        self.entries.insert(position, (key, value));
    }

    pub fn remove(&mut self, key: &str) -> Option<T> {
        let position = self.positions.remove(key)?;
        self.entries.remove(&position).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.entries.values().map(|(key, value)| (key, value))
    }
}

impl<T> IntoIterator for Ordered<T> {
    type Item = (String, T);
    type IntoIter = std::collections::btree_map::IntoValues<usize, (String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_values()
    }
}

impl<T> Extend<(String, T)> for Ordered<T> {
    fn extend<I: IntoIterator<Item = (String, T)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| self.insert(key, value));
    }
}

impl<T> FromIterator<(String, T)> for Ordered<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        let mut all = Self::default();
        all.extend(entries);
        all
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Ordered<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut all = Ordered::default();
                while let Some((key, value)) = from.next_entry()? {
                    all.insert(key, value);
                }
                Ok(all)
            }
        }

        from.deserialize_map(Object(PhantomData))
    }
}

/// A value; if it is an object, its keys keep the order of the file.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
pub enum OrderedValue {
    Object(Ordered<Value>),
    Other(Value),
}

impl From<OrderedValue> for Value {
    fn from(entry: OrderedValue) -> Self {
        match entry {
            OrderedValue::Object(object) => Self::Object(object.into_iter().collect()),
            OrderedValue::Other(value) => value,
        }
    }
}
