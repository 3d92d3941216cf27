//! The models of one process, by served name.
//!
//! Must not know: how a request names its model on the wire.

use thiserror::Error;

use crate::Engine;

/// A name that no model is served under.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no model is served as {name:?}; served: {}", known.join(", "))]
pub struct UnknownModel {
    /// The name asked for.
    pub name: String,
    /// The names served, in order.
    pub known: Vec<String>,
}

/// Engines by served name; the first is the default.
#[derive(Debug, Clone)]
pub struct Registry {
    engines: Vec<(String, Engine)>,
}

impl Registry {
    /// A registry of one or more engines with different names.
    ///
    /// # Errors
    /// The name that occurs twice; an empty list is refused with an empty name.
    pub fn new(engines: Vec<(String, Engine)>) -> Result<Self, String> {
        if engines.is_empty() {
            return Err(String::new());
        }
        for (index, (name, _)) in engines.iter().enumerate() {
            if engines[..index].iter().any(|(other, _)| other == name) {
                return Err(name.clone());
            }
        }
        Ok(Self { engines })
    }

    /// The engine served as `name`, or the default for `None`.
    ///
    /// # Errors
    /// A name that is not served.
    pub fn get(&self, name: Option<&str>) -> Result<(&str, &Engine), UnknownModel> {
        let found = match name {
            None => self.engines.first(),
            Some(name) => self.engines.iter().find(|(known, _)| known == name),
        };
        found.map(|(name, engine)| (name.as_str(), engine)).ok_or_else(|| UnknownModel {
            name: name.unwrap_or_default().to_owned(),
            known: self.engines.iter().map(|(known, _)| known.clone()).collect(),
        })
    }

    /// As [`get`](Self::get); without a name the first engine that is `fit`, if there is one, else
    /// the default. So a process with an embedder and a reranker serves clients that name no model.
    ///
    /// # Errors
    /// A name that is not served.
    pub fn get_fit(
        &self,
        name: Option<&str>,
        fit: impl Fn(&Engine) -> bool,
    ) -> Result<(&str, &Engine), UnknownModel> {
        let first = self.engines.iter().find(|(_, engine)| name.is_none() && fit(engine));
        first.map_or_else(|| self.get(name), |(name, engine)| Ok((name.as_str(), engine)))
    }

    /// All engines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Engine)> {
        self.engines.iter().map(|(name, engine)| (name.as_str(), engine))
    }
}
