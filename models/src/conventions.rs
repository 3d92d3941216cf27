//! What the published code does for a model type around its network, where a checkpoint's files do
//! not say.
//!
//! Must not know: any model type, tensors.

/// Conventions of a model type.
#[derive(Debug, Clone, Copy)]
pub struct Conventions {
    /// The transformers class that opens its tokenizers if the files name none, without `Tokenizer`
    /// at its end; `PreTrained` takes the pipeline of `tokenizer.json` as it is.
    pub tokenizer: &'static str,
    /// Whether that class opens them whatever the files name, as in transformers for types whose
    /// files name all sorts of classes.
    pub fixed_tokenizer: bool,
    /// What is written before and after a free instruction, unless the checkpoint's own prompts
    /// have a form for it.
    pub instruction: [&'static str; 2],
}

impl Conventions {
    /// A tokenizer class, and instructions that are put before a text as they are.
    pub const fn of(tokenizer: &'static str) -> Self {
        Self { tokenizer, fixed_tokenizer: false, instruction: ["", ""] }
    }

    /// As [`of`](Self::of), for types whose files name all sorts of classes.
    pub const fn fixed(tokenizer: &'static str) -> Self {
        Self { fixed_tokenizer: true, ..Self::of(tokenizer) }
    }
}
