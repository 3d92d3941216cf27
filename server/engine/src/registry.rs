//! The models of one process by served name. Each has a slot, which is empty while its model is
//! fetched and loaded, and then holds its engine for good.
//!
//! Must not know: how a request names its model on the wire, how a model is fetched or loaded.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use proxima_models::Progress;
use thiserror::Error;
use tokio::sync::watch;

use crate::Engine;

/// No model is served under this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no model is served as {name:?}; served: {}", known.join(", "))]
pub struct UnknownModel {
    /// The name requested.
    pub name: String,
    /// The names served, in order.
    pub known: Vec<String>,
}

/// A model that will be served, but is not ready yet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("model {name} is not ready yet: {stage}")]
pub struct NotReady {
    /// Its served name.
    pub name: String,
    /// What it is doing.
    pub stage: Stage,
}

/// Why a request finds no engine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotServed {
    /// No model has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The model is still being fetched or loaded.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

/// The steps before a model is ready, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadStep {
    /// It waits to be loaded: models are loaded one after another.
    Waiting,
    /// Its files are downloaded; progress is counted in bytes.
    Fetching,
    /// Its weights are read and packed; progress is counted in tensors.
    Loading,
    /// Its first forward pass runs.
    Checking,
}

impl LoadStep {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Loading => "loading",
            Self::Checking => "checking",
        }
    }
}

/// A step and its progress at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The step.
    pub step: LoadStep,
    /// Bytes or tensors done.
    pub done: u64,
    /// Total bytes or tensors; 0 if unknown, or if the step counts nothing.
    pub total: u64,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let Self { step, done, total } = *self;
        match step {
            LoadStep::Waiting => f.write_str("waiting to be loaded"),
            LoadStep::Fetching if total == 0 => f.write_str("fetching its list of files"),
            LoadStep::Fetching => {
                write!(f, "fetching, {:.1} of {:.1} MB", megabytes(done), megabytes(total))
            }
            LoadStep::Loading if total == 0 => f.write_str("opening its files"),
            LoadStep::Loading => write!(f, "loading, {done} of {total} tensors"),
            LoadStep::Checking => f.write_str("running its first forward pass"),
        }
    }
}

/// The slot of one model.
#[derive(Debug)]
pub struct Slot {
    name: String,
    step: Mutex<(LoadStep, Arc<Progress>)>,
    engine: OnceLock<Engine>,
    filled: watch::Sender<bool>,
}

impl Slot {
    fn new(name: String) -> Self {
        let step = Mutex::new((LoadStep::Waiting, Arc::default()));
        Self { name, step, engine: OnceLock::new(), filled: watch::Sender::new(false) }
    }

    /// The served name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a step, whose progress is counted in `progress`.
    pub fn begin(&self, step: LoadStep, progress: Arc<Progress>) {
        // Both are replaced in one assignment, so poison is harmless.
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = (step, progress);
    }

    /// Serves the model from now on. A second engine for the same slot is dropped.
    pub fn fill(&self, engine: Engine) {
        let _ = self.engine.set(engine);
        self.filled.send_replace(true);
    }

    /// Waits for the engine and returns it.
    pub async fn filled(&self) -> &Engine {
        loop {
            // The sender lives as long as the slot.
            drop(self.filled.subscribe().wait_for(|filled| *filled).await);
            if let Some(engine) = self.engine.get() {
                return engine;
            }
        }
    }

    /// The engine.
    ///
    /// # Errors
    /// What the model is doing, if it is not ready.
    pub fn engine(&self) -> Result<&Engine, NotReady> {
        self.engine.get().ok_or_else(|| {
            let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
            let (step, progress) = &*step;
            let total = progress.total();
            let stage = Stage { step: *step, done: progress.done().min(total), total };
            NotReady { name: self.name.clone(), stage }
        })
    }
}

/// Why models cannot be served under their names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// There is no model.
    #[error("there is no model to serve")]
    None,
    /// Two models have this name.
    #[error("two models have the name {0:?}")]
    Twice(String),
}

/// Slots by served name; the first is the default. Clones share the slots.
#[derive(Debug, Clone)]
pub struct Registry {
    slots: Arc<[Slot]>,
}

impl Registry {
    /// A registry of models that are not ready yet, with distinct names.
    ///
    /// # Errors
    /// See [`NamesError`].
    pub fn starting(names: impl IntoIterator<Item = String>) -> Result<Self, NamesError> {
        let slots: Arc<[Slot]> = names.into_iter().map(Slot::new).collect();
        if slots.is_empty() {
            return Err(NamesError::None);
        }
        for (index, Slot { name, .. }) in slots.iter().enumerate() {
            if slots[..index].iter().any(|other| other.name == *name) {
                return Err(NamesError::Twice(name.clone()));
            }
        }
        Ok(Self { slots })
    }

    /// A registry of one or more engines with distinct names, all ready.
    ///
    /// # Errors
    /// As for [`starting`](Self::starting).
    pub fn new(engines: Vec<(String, Engine)>) -> Result<Self, NamesError> {
        let registry = Self::starting(engines.iter().map(|(name, _)| name.clone()))?;
        registry.slots.iter().zip(engines).for_each(|(slot, (_, engine))| slot.fill(engine));
        Ok(registry)
    }

    /// The engine served as `name`, or the default for `None`.
    ///
    /// # Errors
    /// A name that is not served, or a model that is not ready.
    pub fn get(&self, name: Option<&str>) -> Result<(&str, &Engine), NotServed> {
        let slot = self.slot(name)?;
        Ok((&slot.name, slot.engine()?))
    }

    /// Like [`get`](Self::get), but without a name it returns the first engine made for a task,
    /// else the first that is able to do it, else the default. So a process with an embedder and a
    /// reranker serves clients that name no model.
    ///
    /// What a model is made for is known only once it is ready. If a model before the first one
    /// made for the task is not ready, a request without a name fails with [`NotReady`], so that
    /// later requests are never answered by a different model.
    ///
    /// # Errors
    /// A name that is not served, or a model that is not ready.
    pub fn choose(
        &self,
        name: Option<&str>,
        made_for: impl Fn(&Engine) -> bool,
        able: impl Fn(&Engine) -> bool,
    ) -> Result<(&str, &Engine), NotServed> {
        if name.is_none() {
            let mut first_able = None;
            for slot in self.slots.iter() {
                let engine = slot.engine()?;
                if made_for(engine) {
                    return Ok((&slot.name, engine));
                }
                if first_able.is_none() && able(engine) {
                    first_able = Some((&*slot.name, engine));
                }
            }
            if let Some(found) = first_able {
                return Ok(found);
            }
        }
        self.get(name)
    }

    /// The slot of a name, or the default for `None`.
    ///
    /// # Errors
    /// A name that is not served.
    pub fn slot(&self, name: Option<&str>) -> Result<&Slot, UnknownModel> {
        let slot = self.slots.iter().find(|slot| name.is_none_or(|name| name == slot.name));
        slot.ok_or_else(|| UnknownModel {
            name: name.unwrap_or_default().to_owned(),
            known: self.slots.iter().map(|slot| slot.name.clone()).collect(),
        })
    }

    /// All slots in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The engines of models that are ready, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Engine)> {
        self.slots.iter().filter_map(|slot| Some((&*slot.name, slot.engine.get()?)))
    }

    /// Models that are not ready, in order.
    pub fn not_ready(&self) -> impl Iterator<Item = NotReady> {
        self.slots.iter().filter_map(|slot| slot.engine().err())
    }
}
