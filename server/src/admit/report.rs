//! What `proxima admit` found, as text and as JSON.
//!
//! Must not know: how it was found out.

use std::fmt;
use std::path::{Path, PathBuf};

use proxima_models::checkpoint::{Handling, KeyUse};
use proxima_models::{Checkpoint, Model};
use serde::Serialize;

use super::compare::Comparison;

/// What was found about a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Its folder.
    pub folder: PathBuf,
    /// `model_type` of `config.json`.
    pub model_type: Option<String>,
    /// `architectures` of `config.json`.
    pub architectures: Vec<String>,
    /// Its configuration files.
    pub files: Vec<FileUse>,
    /// How it is served; absent if it is refused.
    pub served: Option<Served>,
    /// Why it is refused.
    pub refusal: Option<String>,
    /// Its answers beside the reference's.
    pub comparison: Option<Comparison>,
    /// Why they were not compared.
    pub not_compared: Option<String>,
}

/// What is done with the keys of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileUse {
    /// The file, relative to the folder.
    pub file: String,
    /// Keys that are read or checked.
    pub read: Vec<String>,
    /// Keys that do not change results, and why.
    pub without_effect: Vec<(String, String)>,
    /// Keys that are unknown and ignored.
    pub unknown: Vec<String>,
}

/// How a checkpoint is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Served {
    /// The family of its network.
    pub family: String,
    /// How inputs become tokens.
    pub recipe: String,
    /// What it gives, each in words.
    pub gives: Vec<String>,
    /// Longest sequence in tokens.
    pub tokens_max: usize,
    /// Names of its prompts.
    pub prompts: Vec<String>,
    /// What its operator should know: unknown keys, tensors that nothing reads.
    pub warnings: Vec<String>,
}

impl FileUse {
    /// The uses by file, in order.
    pub fn of(uses: &[KeyUse]) -> Vec<Self> {
        let mut files: Vec<Self> = Vec::new();
        for KeyUse { file, key, handling } in uses {
            if files.last().is_none_or(|last| last.file != *file) {
                files.push(Self { file: file.clone(), ..Self::default() });
            }
            let Some(last) = files.last_mut() else { continue };
            match handling {
                Handling::Read => last.read.push(key.clone()),
                Handling::NoEffect(why) => {
                    last.without_effect.push((key.clone(), (*why).to_owned()));
                }
                Handling::Unknown => last.unknown.push(key.clone()),
            }
        }
        files
    }
}

impl Served {
    /// How a model is served.
    pub fn of(model: &Model) -> Self {
        let info = &model.info;
        let capabilities = &info.capabilities;
        let mut gives = Vec::new();
        if let Some(width) = capabilities.embedding {
            let pooling: Vec<&str> =
                capabilities.pooling.iter().map(|pooling| pooling.name()).collect();
            gives.push(format!("vectors of {width} components, pooling {}", pooling.join("+")));
        }
        match capabilities.labels.as_deref() {
            Some([_]) => gives.push("a score of a pair".into()),
            Some(labels) => gives.push(format!("{} classes: {}", labels.len(), labels.join(", "))),
            None => {}
        }
        if info.listwise {
            gives.push("rankings of lists".into());
        }
        if capabilities.sparse {
            gives.push("weights of words".into());
        }
        if capabilities.multi {
            gives.push("a vector for each token".into());
        }
        Self {
            family: info.family.clone(),
            recipe: info.recipe.clone(),
            gives,
            tokens_max: info.tokens_max,
            prompts: info.prompts.keys().cloned().collect(),
            warnings: info.warnings.clone(),
        }
    }
}

impl Report {
    /// A report of which nothing is known yet.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            model_type: None,
            architectures: Vec::new(),
            files: Vec::new(),
            served: None,
            refusal: None,
            comparison: None,
            not_compared: None,
        }
    }

    /// Adds what a checkpoint says it is.
    pub fn set_checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.model_type = Some(checkpoint.model_type().to_owned());
        self.architectures =
            checkpoint.architectures().iter().map(|name| (*name).to_owned()).collect();
    }

    /// Whether the checkpoint is served with the reference's answers, as far as is known.
    ///
    /// # Errors
    /// Why not.
    pub fn verdict(&self) -> Result<(), String> {
        match (&self.refusal, &self.comparison) {
            (Some(problem), _) => Err(format!("it is refused: {problem}")),
            (None, Some(comparison)) if !comparison.equal => {
                Err("its answers are not those of the reference".into())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.folder.display())?;
        if let Some(model_type) = &self.model_type {
            writeln!(f, "  type      {model_type}: {}", list(&self.architectures))?;
        }
        if let Some(served) = &self.served {
            writeln!(f, "  served as {}, recipe {}", served.family, served.recipe)?;
            writeln!(f, "  gives     {}", served.gives.join("; "))?;
            writeln!(f, "  longest   {} tokens", served.tokens_max)?;
            writeln!(f, "  prompts   {}", list(&served.prompts))?;
        }
        for file in &self.files {
            write_file(f, file)?;
        }
        for warning in self.served.iter().flat_map(|served| &served.warnings) {
            writeln!(f, "  warning   {warning}")?;
        }
        match (&self.comparison, &self.not_compared) {
            (Some(comparison), _) => write_comparison(f, comparison)?,
            (None, Some(problem)) => writeln!(f, "  not compared with the reference: {problem}")?,
            (None, None) => {}
        }
        match self.verdict() {
            Ok(()) if self.comparison.is_some() => {
                writeln!(f, "  verdict   it is served, with the reference's answers")
            }
            Ok(()) => writeln!(f, "  verdict   it is served; its answers were not compared"),
            Err(problem) => writeln!(f, "  verdict   {problem}"),
        }
    }
}

fn write_file(f: &mut fmt::Formatter<'_>, file: &FileUse) -> fmt::Result {
    let FileUse { file, read, without_effect, unknown } = file;
    let (read, idle) = (read.len(), without_effect.len());
    writeln!(
        f,
        "  {file}: {read} keys are read, {idle} have no effect, {} unknown",
        unknown.len()
    )?;
    for (key, why) in without_effect {
        writeln!(f, "    no effect {key}: {why}")?;
    }
    for key in unknown {
        writeln!(f, "    unknown   {key}")?;
    }
    Ok(())
}

fn write_comparison(f: &mut fmt::Formatter<'_>, comparison: &Comparison) -> fmt::Result {
    let versions: Vec<String> =
        comparison.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    write!(f, "  compared  {} inputs with {}: ", comparison.inputs, versions.join(", "))?;
    if let Some(cosine) = comparison.cosine_min {
        write!(f, "smallest cosine {cosine:.8}")?;
    }
    if let Some(off) = comparison.off_max {
        write!(f, "off by at most {off:.1e}")?;
    }
    match comparison.different_tokens {
        0 => writeln!(f),
        count => writeln!(f, ", {count} inputs have other tokens"),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
