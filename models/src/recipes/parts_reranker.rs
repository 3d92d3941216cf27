//! Rerankers that are causal language models, whose pairs are written by the authors' code between
//! fixed texts, each part tokenised alone: mxbai-rerank-v2 (`mxbai_rerank_v2.py` of the package
//! mxbai-rerank) and bge-reranker-v2-gemma (FlagEmbedding's `FlagLLMReranker`). Their files do not
//! tell, so they are known by name.
//!
//! Must not know: which network follows, tensors, requests.

use super::prompts::Prompts;
use super::tokenizer::TextTokenizer;
use super::{
    AnswerWords, NetworkTraits, Recipe, RecipeKind, Tokenize, check_pair, prepare_only_pairs,
};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, Prepare};
use crate::task::Task;

/// A model that is known by name.
struct KnownReranker {
    /// What its name contains, in lower case.
    name: &'static str,
    model_type: &'static str,
    /// Whether the sequence starts with the tokenizer's `bos_token`.
    starts_with_bos: bool,
    /// A text before the pair.
    before: &'static str,
    /// What the query and the document begin with.
    query: &'static str,
    document: &'static str,
    /// Texts after the pair, each tokenised alone.
    after: &'static [&'static str],
    /// What an instruction before the query begins with, if it takes one.
    instruction: Option<&'static str>,
    /// Most tokens of query and document together.
    pair_tokens_max: Option<usize>,
    answers: AnswerWords,
}

const KNOWN: [KnownReranker; 2] = [
    KnownReranker {
        name: "mxbai-rerank",
        model_type: "qwen2",
        starts_with_bos: false,
        before: "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful \
                 assistant.<|im_end|>\n<|im_start|>user\n",
        query: "query: ",
        document: "document: ",
        after: &[
            "\n",
            "You are a search relevance expert who evaluates how well documents match search \
             queries. For each query-document pair, carefully analyze the semantic relationship \
             between them, then provide your binary relevance judgment (0 for not relevant, 1 for \
             relevant).\nRelevance:",
            "<|im_end|>\n<|im_start|>assistant\n",
        ],
        instruction: Some("instruction: "),
        pair_tokens_max: Some(8192),
        answers: AnswerWords { yes: "1", no: Some("0"), divisor: 1.0, first_token: true },
    },
    KnownReranker {
        name: "bge-reranker-v2-gemma",
        model_type: "gemma",
        starts_with_bos: true,
        before: "",
        query: "A: ",
        document: "B: ",
        after: &[
            "\n",
            "Given a query A and a passage B, determine whether the passage contains an answer to \
             the query by providing a prediction of either 'Yes' or 'No'.",
        ],
        instruction: None,
        pair_tokens_max: None,
        answers: AnswerWords { yes: "Yes", no: None, divisor: 1.0, first_token: true },
    },
];
/// Between query and document.
const BETWEEN: &str = "\n";

/// Which known model a checkpoint is, unless its files say how it scores.
fn known(checkpoint: &Checkpoint) -> Option<&'static KnownReranker> {
    let modules = checkpoint.sentence_transformers();
    if modules.is_some_and(|modules| modules.logit_score.is_some()) {
        return None;
    }
    let (model_type, names) = (checkpoint.model_type(), checkpoint.names());
    KNOWN.iter().find(|known| known.model_type == model_type && names.contains(known.name))
}

/// Whether a checkpoint is one of the known models.
pub fn is_known(checkpoint: &Checkpoint) -> bool {
    known(checkpoint).is_some()
}

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "parts_reranker",
        fits: |checkpoint, task| task == Task::Rerank && is_known(checkpoint),
        tokens_max: None,
        load: |checkpoint, traits, _| {
            let known = known(checkpoint)
                .ok_or_else(|| CheckpointError::new(checkpoint.dir(), "its name is not known"))?;
            let tokenizer = TextTokenizer::load(checkpoint, traits)?;
            Ok(Box::new(PartsReranker::new(checkpoint, known, tokenizer, traits)?))
        },
    }
}

struct PartsReranker {
    known: &'static KnownReranker,
    tokenizer: TextTokenizer,
    prompts: Prompts,
    before: Vec<u32>,
    between: Vec<u32>,
    after: Vec<u32>,
}

impl PartsReranker {
    fn new(
        checkpoint: &Checkpoint,
        known: &'static KnownReranker,
        tokenizer: TextTokenizer,
        traits: &NetworkTraits,
    ) -> Result<Self, CheckpointError> {
        let tokens_max = traits.tokens_max;
        let error = |problem: String| {
            CheckpointError::new(checkpoint.transformer_dir().join("tokenizer.json"), problem)
        };
        let ids = |text: &str| -> Result<Vec<u32>, CheckpointError> {
            let encoding = tokenizer.plain(text).map_err(|problem| error(problem.to_string()))?;
            Ok(encoding.get_ids().to_vec())
        };
        let tokens = tokenizer.named_tokens();
        let begin = tokens.get("bos_token").filter(|token| {
            // As FlagEmbedding does.
            known.starts_with_bos && tokens.get("pad_token") != Some(token)
        });
        let begin = begin.map(|token| tokenizer.id(checkpoint, token)).transpose()?;
        let before = begin.into_iter().chain(ids(known.before)?).collect::<Vec<u32>>();
        let after = known.after.iter().map(|text| ids(text)).collect::<Result<Vec<_>, _>>()?;
        let (between, after) = (ids(BETWEEN)?, after.concat());
        if before.len() + between.len() + after.len() >= tokens_max {
            return Err(error(format!("the fixed prompt leaves no room in {tokens_max} tokens")));
        }
        let prompts = Prompts::of(checkpoint, &traits.conventions);
        Ok(Self { known, tokenizer, prompts, before, between, after })
    }

    fn pair(&self, query: &str, document: &str, how: &Prepare) -> Result<Sequence, InputError> {
        let Self { known, tokenizer, before, between, after, .. } = self;
        let instruction = self.prompts.asked(&how.prompt)?;
        let instruction = match (instruction, known.instruction) {
            (None, _) => String::new(),
            (Some(text), Some(label)) => format!("{label}{text}\n"),
            (Some(_), None) => return Err(InputError::NoInstruction),
        };
        let query = tokenizer.part(query, how.query_tokens_max)?;
        let document = tokenizer.part(document, how.document_tokens_max)?;
        let fixed = before.len() + after.len();
        let limit = tokenizer.limit(how);
        // For query, document and what is between them.
        let room = limit.saturating_sub(fixed).min(known.pair_tokens_max.unwrap_or(usize::MAX));
        let cut = |tokens: usize| Prepare { tokens_max: Some(tokens), ..how.clone() };
        // If truncating, the query gets at most 3/4 of the room, as in the authors' code.
        let query_room = if how.truncate { room * 3 / 4 } else { room };
        let query = format!("{instruction}{}{query}", known.query);
        let query = tokenizer.cut(&query, 0, &cut(query_room));
        let query = query.map_err(|error| of_pair(error, fixed, limit))?;
        let rest = room.saturating_sub(query.kept.len() + between.len());
        let document = format!("{}{document}", known.document);
        let document = tokenizer.cut(&document, 0, &cut(rest));
        let around = fixed + query.kept.len() + between.len();
        let document = document.map_err(|error| of_pair(error, around, limit))?;
        let parts =
            [before, query.kept.get_ids(), between, document.kept.get_ids(), &after[..]].concat();
        let is_cut = query.is_cut || document.is_cut;
        tokenizer.checked(Sequence { tokens: parts, is_cut, ..Sequence::default() })
    }
}

/// The error of a part as one of the whole pair, which has this many tokens around the part.
fn of_pair(error: InputError, around: usize, limit: usize) -> InputError {
    match error {
        InputError::LimitTooSmall { .. } => InputError::LimitTooSmall { limit },
        InputError::TooLong { tokens, .. } => {
            InputError::TooLong { tokens: tokens + around, limit }
        }
        other => other,
    }
}

impl Recipe for PartsReranker {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.tokenizer
    }

    fn own_prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn answers(&self) -> AnswerWords {
        self.known.answers
    }

    fn check_input(&self) -> Input {
        check_pair()
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        prepare_only_pairs(&self.tokenizer, input, how, |query, document, how| {
            self.pair(query, document, how)
        })
    }
}
