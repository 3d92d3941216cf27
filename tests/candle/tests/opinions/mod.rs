//! What candle-transformers computes for a checkpoint. Must not know Proxima's networks.

pub mod decoders;
pub mod encoders;
pub mod list;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::VarBuilder;
use proxima_models::Sequence;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a network of candle gives for a sequence.
pub enum Answer {
    /// The last hidden state of each token.
    States(Tensor),
    /// Logits of the word that follows the last token.
    Next(Tensor),
    /// Logits of each word, for each token.
    Words(Tensor),
    /// Logits of a score head.
    Scores(Tensor),
}

/// A network of candle: each call computes one sequence from its start.
pub type Network = Box<dyn Fn(&Sequence) -> Result<Answer>>;

/// Makes a network of candle from a checkpoint.
pub type Make = fn(Parts) -> Result<Network>;

/// A checkpoint as candle reads it.
pub struct Parts {
    pub config: Value,
    pub tensors: HashMap<String, Tensor>,
}

impl Parts {
    pub fn read(folder: &Path) -> Self {
        let config = fs::read_to_string(folder.join("config.json")).expect("a config");
        let tensors =
            candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
        Self {
            config: serde_json::from_str(&config).expect("JSON"),
            tensors: tensors.expect("tensors"),
        }
    }

    /// The configuration, with values of transformers for what it leaves out and candle asks for.
    pub fn config<C: DeserializeOwned>(&self, defaults: Value) -> Result<C> {
        let mut config = defaults;
        for (key, value) in self.config.as_object().expect("an object") {
            if !value.is_null() {
                config[key] = value.clone();
            }
        }
        serde_json::from_value(config).map_err(Error::wrap)
    }

    /// Gives all tensors this prefix unless some have it: checkpoints may leave it out, and candle
    /// mostly asks for it.
    pub fn prefix(&mut self, prefix: &str) {
        let prefix = format!("{prefix}.");
        if !self.tensors.keys().any(|name| name.starts_with(&prefix)) {
            let tensors = self.tensors.drain();
            self.tensors = tensors.map(|(name, tensor)| (prefix.clone() + &name, tensor)).collect();
        }
    }

    /// The tensors of a network, with this prefix.
    pub fn weights(&mut self, prefix: &str) -> VarBuilder<'static> {
        self.prefix(prefix);
        VarBuilder::from_tensors(self.tensors.clone(), DType::F32, &Device::Cpu)
    }

    /// The rows of the language head: its own, or the embeddings of words.
    pub fn words(&self) -> Option<Tensor> {
        let names = ["lm_head.weight", "model.embed_tokens.weight", "embed_tokens.weight"];
        let found = names.iter().find_map(|name| self.tensors.get(*name));
        found.cloned()
    }

    /// Whether a decoder's tokens attend to later ones.
    pub fn sees_all(&self) -> bool {
        self.config["is_causal"] == false
    }
}

/// The tokens of a sequence, as a batch of one.
pub fn ids(sequence: &Sequence) -> Result<Tensor> {
    Tensor::new(&sequence.tokens[..], &Device::Cpu)?.unsqueeze(0)
}

/// The types of its tokens: 1 from the second text on.
pub fn types(sequence: &Sequence) -> Result<Tensor> {
    let second = sequence.second_text.unwrap_or(sequence.tokens.len());
    let types = (0..sequence.tokens.len()).map(|index| u32::from(index >= second));
    Tensor::from_iter(types, &Device::Cpu)?.unsqueeze(0)
}

/// A mask of ones: all tokens are there.
pub fn all(sequence: &Sequence) -> Result<Tensor> {
    Tensor::ones((1, sequence.tokens.len()), DType::U32, &Device::Cpu)
}

/// The answer for the one sequence of a batch.
pub fn states(batch: &Tensor) -> Result<Answer> {
    Ok(Answer::States(batch.squeeze(0)?))
}
