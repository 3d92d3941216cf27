//! The special and added tokens named in the files beside `tokenizer.json`, as transformers 5
//! collects them (`PreTrainedTokenizerBase._from_pretrained`) and adds them
//! (`TokenizersBackend.__init__`): from `tokenizer_config.json` and, only if that has no
//! `added_tokens_decoder`, also from `special_tokens_map.json` and `added_tokens.json`.
//!
//! Must not know: pipelines.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::{AddedToken, PaddingParams, Tokenizer};

use super::class::TokenizerClass;
use super::ordered::{Ordered, OrderedValue};
use super::{CONFIG, error};
use crate::checkpoint::{Checkpoint, CheckpointError, read_json_if_there};

/// Keys of the tokens that every class names, in the order in which they are added.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const ADDITIONAL: &str = "additional_special_tokens";
const EXTRA: &str = "extra_special_tokens";
const OF_MODEL: &str = "model_specific_special_tokens";
const DECODER: &str = "added_tokens_decoder";
/// Keys that hold several tokens.
const LISTS: [&str; 3] = [ADDITIONAL, EXTRA, OF_MODEL];

/// A token that `tokenizer.json` lists.
#[derive(Debug, Clone, Deserialize)]
pub struct Listed {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

/// A token as written in a file.
#[derive(Debug, Clone, PartialEq)]
pub enum FileToken {
    /// Its text alone.
    Text(String),
    /// Its text and flags.
    Flagged(Flagged),
}

/// A token and its flags. `normalized` defaults to the opposite of `special`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Flagged {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Flagged {
    fn of(token: &AddedToken) -> Self {
        Self {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: Some(token.normalized),
            special: token.special,
        }
    }

    fn token(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }
}

impl FileToken {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Flagged(token) => &token.content,
        }
    }
}

/// The tokens of a checkpoint's files.
#[derive(Debug, Default)]
pub struct Tokens {
    /// By id.
    decoder: BTreeMap<u32, Flagged>,
    /// By key, in the order in which they are added.
    named: Vec<(String, FileToken)>,
    /// Without a key.
    extra: Vec<FileToken>,
}

impl Tokens {
    /// The tokens named in files and, where files name none, the class's defaults.
    ///
    /// # Errors
    /// A value that is not a token where one is expected; transformers does not load it either.
    pub fn read(
        checkpoint: &Checkpoint,
        class: TokenizerClass,
        listed: &[Listed],
        padding: Option<&PaddingParams>,
    ) -> Result<Self, CheckpointError> {
        let mut files = Files::open(checkpoint)?;
        files.prefer_extra();
        let mut of_model = files.take_of_model();
        let decoder = match files.keys.get(DECODER) {
            Some(decoder) => decoder_of(checkpoint, decoder)?,
            None => files.add_older(&mut of_model, listed)?,
        };
        let by_text: BTreeMap<&str, &Flagged> =
            decoder.values().map(|token| (token.content.as_str(), token)).collect();
        let mut named = Vec::new();
        for key in NAMED {
            let token = match files.keys.get(key) {
                Some(Value::Null) => None,
                Some(value) => {
                    let token = files.token(key, value)?;
                    let known =
                        by_text.get(token.text()).map(|known| FileToken::Flagged((*known).clone()));
                    Some(known.unwrap_or(token))
                }
                None => {
                    default_of(class, key, padding).map(|text| FileToken::Text(text.to_owned()))
                }
            };
            let token = token.map(|token| match token {
                FileToken::Text(content) if takes_space_before(class, key) => {
                    let token = AddedToken::from(content, true).lstrip(true);
                    FileToken::Flagged(Flagged::of(&token))
                }
                token => token,
            });
            named.extend(token.map(|token| (key.to_owned(), token)));
        }
        for (key, value) in files.of_other_keys().into_iter().chain(of_model) {
            let token = files.token(&key, &value)?;
            match named.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = token,
                None => named.push((key, token)),
            }
        }
        let extra = files.extra(class)?;
        Ok(Self { decoder, named, extra })
    }

    /// The text of the token under this key.
    pub fn named(&self, key: &str) -> Option<&str> {
        self.named.iter().find(|(known, _)| known == key).map(|(_, token)| token.text())
    }

    /// The texts of tokens by key.
    pub fn by_key(&self) -> BTreeMap<String, String> {
        self.named.iter().map(|(key, token)| (key.clone(), token.text().to_owned())).collect()
    }

    /// All special tokens named in files, without duplicates: transformers' `all_special_tokens`.
    pub fn special(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let all = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        all.map(FileToken::text).filter(|text| seen.insert(*text)).collect()
    }

    /// Adds the tokens to a tokenizer. A token that exists with other flags gets the new ones.
    ///
    /// # Errors
    /// Tokens that the library does not accept.
    pub fn add_to(
        &self,
        tokenizer: &mut Tokenizer,
        class: TokenizerClass,
    ) -> tokenizers::Result<()> {
        let there = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        // All of them, even existing ones: of two with the same text, the later one wins.
        let mut added: Vec<FileToken> =
            self.decoder.values().cloned().map(FileToken::Flagged).collect();
        let mut known: HashSet<String> =
            there.values().map(|token| token.content.clone()).collect();
        known.extend(added.iter().map(|token| token.text().to_owned()));
        for token in self.named.iter().map(|(_, token)| token).chain(&self.extra) {
            if !known.contains(token.text()) && !added.contains(token) {
                added.push(token.clone());
            }
        }
        let names: HashSet<&str> = self.named.iter().map(|(_, token)| token.text()).collect();
        let made = added.iter().map(|token| match token {
            FileToken::Text(text) => AddedToken::from(text.clone(), true),
            FileToken::Flagged(token) => {
                let special = token.special || names.contains(token.content.as_str());
                Flagged { special, ..token.clone() }.token()
            }
        });
        tokenizer.add_tokens(made)?;
        if class == TokenizerClass::Qwen2 {
            // This class adds them once more, without their flags.
            let all = self.special().into_iter().map(|text| AddedToken::from(text, true));
            tokenizer.add_tokens(all)?;
        }
        Ok(())
    }
}

/// Whether the class sets `lstrip` on this token if a file gives its text alone.
fn takes_space_before(class: TokenizerClass, key: &str) -> bool {
    matches!(class, TokenizerClass::Camembert | TokenizerClass::MPNet) && key == "mask_token"
}

/// The class's default for a token that files do not name.
fn default_of<'a>(
    class: TokenizerClass,
    key: &str,
    padding: Option<&'a PaddingParams>,
) -> Option<&'a str> {
    match (class, key) {
        (TokenizerClass::File, "pad_token") => padding.map(|padding| padding.pad_token.as_str()),
        (TokenizerClass::Bert | TokenizerClass::MPNet, "unk_token") => Some("[UNK]"),
        (TokenizerClass::Bert, "sep_token") => Some("[SEP]"),
        (TokenizerClass::Bert, "pad_token") => Some("[PAD]"),
        (TokenizerClass::Bert, "cls_token") => Some("[CLS]"),
        (TokenizerClass::Bert, "mask_token") => Some("[MASK]"),
        (TokenizerClass::DebertaV2, key) => Some(match key {
            "bos_token" | "cls_token" => "[CLS]",
            "eos_token" | "sep_token" => "[SEP]",
            "unk_token" => "[UNK]",
            "pad_token" => "[PAD]",
            _ => "[MASK]",
        }),
        (TokenizerClass::Gpt2, "unk_token" | "bos_token" | "eos_token")
        | (TokenizerClass::Qwen2, "unk_token" | "eos_token" | "pad_token") => Some("<|endoftext|>"),
        (TokenizerClass::Gemma, "bos_token") => Some("<bos>"),
        (TokenizerClass::Gemma, "eos_token") => Some("<eos>"),
        (TokenizerClass::Gemma, "unk_token") => Some("<unk>"),
        (TokenizerClass::Gemma, "pad_token") => Some("<pad>"),
        (TokenizerClass::Gemma, "mask_token") => Some("<mask>"),
        (
            TokenizerClass::Roberta
            | TokenizerClass::XlmRoberta
            | TokenizerClass::Camembert
            | TokenizerClass::MPNet,
            key,
        ) => Some(match key {
            "bos_token" | "cls_token" => "<s>",
            "eos_token" | "sep_token" => "</s>",
            "unk_token" => "<unk>",
            "pad_token" => "<pad>",
            _ => "<mask>",
        }),
        _ => None,
    }
}

/// The `added_tokens_decoder` of `tokenizer_config.json`.
fn decoder_of(
    checkpoint: &Checkpoint,
    decoder: &Value,
) -> Result<BTreeMap<u32, Flagged>, CheckpointError> {
    let wrong = |problem: String| error(checkpoint, format!("{DECODER} {problem}"));
    let decoder =
        decoder.as_object().ok_or_else(|| wrong("must be an object of tokens by id".into()))?;
    let token = |(id, token): (&String, &Value)| {
        let id = id.parse().map_err(|_| wrong(format!("has {id:?} as an id")))?;
        let token = Flagged::deserialize(token)
            .map_err(|problem| wrong(format!("has no token at {id}: {problem}")))?;
        Ok((id, token))
    };
    decoder.iter().map(token).collect()
}

/// The tokens in files: keys of `tokenizer_config.json`, overridden by those of older files.
struct Files<'a> {
    checkpoint: &'a Checkpoint,
    keys: Ordered<Value>,
    /// Keys of [`LISTS`] that hold an object: tokens by keys of their own.
    objects: Ordered<Ordered<Value>>,
}

impl<'a> Files<'a> {
    fn open(checkpoint: &'a Checkpoint) -> Result<Self, CheckpointError> {
        let (keys, objects) = (Ordered::default(), Ordered::default());
        let mut files = Self { checkpoint, keys, objects };
        let is_of_tokens =
            |key: &str| key.ends_with("_token") || key == DECODER || LISTS.contains(&key);
        for (key, entry) in files.file::<Ordered<OrderedValue>>(CONFIG)? {
            match entry {
                OrderedValue::Object(object) if LISTS.contains(&key.as_str()) => {
                    files.objects.insert(key, object);
                }
                entry if is_of_tokens(&key) => files.keys.insert(key, entry.into()),
                _ => {}
            }
        }
        Ok(files)
    }

    /// The newer of two names for the same list takes precedence, unless it is empty.
    fn prefer_extra(&mut self) {
        let is_empty = match (self.objects.get(EXTRA), self.keys.get(EXTRA)) {
            (Some(tokens), _) => tokens.is_empty(),
            (None, Some(Value::Array(tokens))) => tokens.is_empty(),
            (None, value) => value.is_none_or(Value::is_null),
        };
        if !is_empty {
            return;
        }
        if let Some(additional) = self.keys.remove(ADDITIONAL) {
            self.objects.remove(EXTRA);
            self.keys.insert(EXTRA.into(), additional);
        } else if let Some(additional) = self.objects.remove(ADDITIONAL) {
            self.keys.remove(EXTRA);
            self.objects.insert(EXTRA.into(), additional);
        }
    }

    /// Takes the tokens under model-specific keys.
    fn take_of_model(&mut self) -> Ordered<Value> {
        let keys = std::mem::take(&mut self.keys).into_iter();
        let (mut taken, rest): (Vec<_>, Vec<_>) =
            keys.partition(|(key, value)| is_of_one_model(key) && value.is_string());
        self.keys.extend(rest);
        taken.extend(self.objects.remove(EXTRA).into_iter().flatten());
        match (taken.is_empty(), self.objects.remove(OF_MODEL)) {
            (true, Some(own)) => own,
            _ => taken.into_iter().collect(),
        }
    }

    /// Adds the tokens of `special_tokens_map.json`, `added_tokens.json` and `tokenizer.json`;
    /// returns those that have an id.
    fn add_older(
        &mut self,
        of_model: &mut Ordered<Value>,
        listed: &[Listed],
    ) -> Result<BTreeMap<u32, Flagged>, CheckpointError> {
        for (key, entry) in self.file::<Ordered<OrderedValue>>("special_tokens_map.json")? {
            let value = match entry {
                OrderedValue::Object(extra) if key == EXTRA => {
                    self.keys.remove(EXTRA);
                    of_model.extend(extra);
                    continue;
                }
                OrderedValue::Other(Value::Array(tokens)) if key == EXTRA => {
                    let mut all = self.keys.get(EXTRA).and_then(Value::as_array).cloned();
                    let all_of_them = all.get_or_insert_default();
                    for token in tokens.into_iter().map(typed) {
                        if !all_of_them.contains(&token) {
                            all_of_them.push(token);
                        }
                    }
                    all.into()
                }
                entry => typed(entry.into()),
            };
            self.keys.insert(key, value);
        }
        let mut special: HashSet<String> = HashSet::new();
        let lists = self.keys.get(EXTRA).and_then(Value::as_array).into_iter().flatten();
        for value in NAMED.iter().filter_map(|key| self.keys.get(key)).chain(lists) {
            let text = value.as_str().or_else(|| value["content"].as_str());
            special.extend(text.map(str::to_owned));
        }
        let mut decoder = BTreeMap::new();
        for (text, id) in self.file::<BTreeMap<String, u32>>("added_tokens.json")? {
            let token = AddedToken::from(text.clone(), special.contains(&text));
            decoder.insert(id, Flagged::of(&token));
        }
        decoder.extend(listed.iter().map(|added| (added.id, Flagged::of(&added.token))));
        Ok(decoder)
    }

    /// A file beside `tokenizer.json`, or the default if it is absent.
    fn file<T: Default + serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<T, CheckpointError> {
        let path = self.checkpoint.transformer_dir().join(name);
        Ok(read_json_if_there(&path)?.unwrap_or_default())
    }

    /// Tokens under model-specific keys, with flags.
    fn of_other_keys(&self) -> Vec<(String, Value)> {
        let others = self
            .keys
            .iter()
            .filter(|(key, value)| is_of_one_model(key) && (value.is_string() || is_typed(value)));
        others.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Tokens without a key of their own.
    fn extra(&self, class: TokenizerClass) -> Result<Vec<FileToken>, CheckpointError> {
        let unused = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"];
        let of_class = (class == TokenizerClass::Camembert).then(|| json!(unused));
        let additional = self.keys.get(ADDITIONAL).filter(|value| !value.is_null());
        let list = self.keys.get(EXTRA).or(additional).or(of_class.as_ref());
        if list.is_none() && self.objects.get(ADDITIONAL).is_some() {
            let problem = format!("{ADDITIONAL} must be a list of tokens beside {EXTRA}");
            return Err(error(self.checkpoint, problem));
        }
        match list {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(tokens)) => {
                tokens.iter().map(|token| self.token(EXTRA, token)).collect()
            }
            Some(other) => {
                let problem = format!("{EXTRA} is {other}, and must be a list of tokens");
                Err(error(self.checkpoint, problem))
            }
        }
    }

    fn token(&self, key: &str, value: &Value) -> Result<FileToken, CheckpointError> {
        let token = match value {
            Value::String(text) => Ok(FileToken::Text(text.clone())),
            value if is_typed(value) => Flagged::deserialize(value)
                .map(FileToken::Flagged)
                .map_err(|problem| format!("is not a token: {problem}")),
            value => Err(format!("is {value}, and must be a string or an AddedToken")),
        };
        token.map_err(|problem| {
            error(self.checkpoint, format!("{key} {problem}; save the tokenizer of {CONFIG} again"))
        })
    }
}

/// Whether a key names a token that not every class has.
fn is_of_one_model(key: &str) -> bool {
    key.ends_with("_token") && !NAMED.contains(&key)
}

/// Whether a value is a token with flags, which transformers marks in this way.
fn is_typed(value: &Value) -> bool {
    value["__type"] == "AddedToken"
}

/// A token of `special_tokens_map.json` with the mark; there, tokens have no mark and are all
/// special.
fn typed(mut value: Value) -> Value {
    if value.is_object() {
        value["__type"] = json!("AddedToken");
        value["special"] = json!(true);
    }
    value
}
