//! jina-reranker-v3: a query and a list of documents in one chat, with a special token after each
//! document and after the query, at which a projector is read (`JinaForRanking`; `modeling.py` of
//! its checkpoint).
//!
//! Must not know: which network follows, tensors, requests.

use std::fmt::Write as _;
use std::sync::Arc;

use super::fitted_list::{CUTS_ENDS, FittedList};
use super::prompts::Prompts;
use super::tokenizer::TextTokenizer;
use super::{CHECK_TEXT, ListTokens, NetworkTraits, Recipe, RecipeKind, SplitLists, Tokenize};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, ListwiseTemplate, Prepare};
use crate::task::Task;

const LISTS_ONLY: InputError = InputError::Kind("ranks lists of texts; POST /rerank takes them");
const OWN_TEMPLATE: InputError = InputError::Kind("has one template for lists; leave it out");
/// The tokens at which a document and the query are read.
const DOCUMENT_MARK: &str = "<|embed_token|>";
const QUERY_MARK: &str = "<|rerank_token|>";
/// Maximum documents of a list.
const DOCUMENTS_MAX: usize = 125;
/// Maximum tokens of a query and of a document, unless a request sets others.
const QUERY_TOKENS_MAX: usize = 512;
const DOCUMENT_TOKENS_MAX: usize = 2048;
/// How many tokens more a list's longest number has than its shortest.
const LONGER_NUMBER: usize = 2;
/// The chat around a list, with thinking disabled.
const HEAD: &str = "<|im_start|>system\nYou are a search relevance expert who can determine a \
    ranking of the passages based on how relevant they are to the query. If the query is a \
    question, how relevant a passage is depends on how well it answers the question. If not, try \
    to analyze the intent of the query and assess how well each passage satisfies the intent. If \
    an instruction is provided, you should follow the instruction when determining the ranking.\
    <|im_end|>\n<|im_start|>user\n";
const TAIL: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "jina_reranker",
        fits: |_, task| task == Task::RankLists,
        tokens_max: None,
        load: |checkpoint, traits, _| Ok(Box::new(JinaReranker::load(checkpoint, traits)?)),
    }
}

struct JinaReranker {
    tokenizer: TextTokenizer,
    prompts: Prompts,
    /// Ids of [`DOCUMENT_MARK`] and [`QUERY_MARK`].
    document_mark: u32,
    query_mark: u32,
    /// Tokens that the template adds to each document, at most.
    passage_tokens: usize,
}

impl JinaReranker {
    fn load(checkpoint: &Checkpoint, traits: &NetworkTraits) -> Result<Self, CheckpointError> {
        let tokenizer = TextTokenizer::load(checkpoint, traits)?;
        let document_mark = tokenizer.id(checkpoint, DOCUMENT_MARK)?;
        let query_mark = tokenizer.id(checkpoint, QUERY_MARK)?;
        let prompts = Prompts::of(checkpoint, &traits.conventions);
        let mut this = Self { tokenizer, prompts, document_mark, query_mark, passage_tokens: 0 };
        let length = |documents: &[Arc<str>]| {
            let list = this.list("a", documents, &Prepare::default());
            list.map(|sequence| sequence.tokens.len()).map_err(|problem| {
                let path = checkpoint.transformer_dir().join("tokenizer.json");
                let problem = format!("a list of two short texts is refused: {problem}");
                CheckpointError::new(path, problem)
            })
        };
        let (one, two) = (length(&["".into()])?, length(&["".into(), "".into()])?);
        this.passage_tokens = two.saturating_sub(one) + LONGER_NUMBER;
        Ok(this)
    }

    fn list(
        &self,
        query: &str,
        candidates: &[Arc<str>],
        how: &Prepare,
    ) -> Result<Sequence, InputError> {
        let instruction = self.prompts.asked(&how.prompt)?.map(without_marks);
        let query = self.cut_query(query, how)?;
        let mut is_cut = query.is_cut;
        let mut documents = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let document = self.cut_document(candidate, how)?;
            is_cut |= document.is_cut;
            documents.push(document.text);
        }
        let encode = |each: Option<usize>| {
            let mut shorter = Vec::with_capacity(documents.len());
            for document in &documents {
                shorter.push(self.tokenizer.part(document, each)?);
            }
            self.tokenizer.plain(&whole(&query.text, &shorter, instruction.as_deref()))
        };
        let fitted = FittedList::new(&self.tokenizer, how, &documents, None, encode)?;
        let tokens = fitted.encoding.get_ids().to_vec();
        let is_mark = |id: u32| id == self.document_mark || id == self.query_mark;
        let marks: Vec<usize> = (0..tokens.len()).filter(|index| is_mark(tokens[*index])).collect();
        if marks.len() != documents.len() + 1 {
            let found = marks.len();
            let problem = format!("{found} marks in a list of {} documents", documents.len());
            return Err(InputError::Tokenizer(problem));
        }
        let is_cut = is_cut || fitted.is_cut;
        self.tokenizer.checked(Sequence { tokens, marks, is_cut, ..Sequence::default() })
    }

    /// A text within the limit that a request sets or, without one, the published one: cutting at
    /// that is truncation, which a request may forbid.
    fn cut(
        &self,
        text: &str,
        asked: Option<usize>,
        published: usize,
        how: &Prepare,
    ) -> Result<CutText, InputError> {
        if asked.is_some() {
            return Ok(CutText { text: self.tokenizer.part(text, asked)?.into(), is_cut: false });
        }
        let part = self.tokenizer.beginning(text, published)?;
        let is_cut = part.len() < text.len();
        if is_cut && !how.truncate {
            let tokens = self.tokenizer.plain(text)?.len();
            return Err(InputError::TooLong { tokens, limit: published });
        }
        if is_cut && self.tokenizer.cuts_left(how) {
            return Err(CUTS_ENDS);
        }
        Ok(CutText { text: part.into(), is_cut })
    }

    fn cut_query(&self, query: &str, how: &Prepare) -> Result<CutText, InputError> {
        self.cut(&without_marks(query), how.query_tokens_max, QUERY_TOKENS_MAX, how)
    }

    fn cut_document(&self, document: &str, how: &Prepare) -> Result<CutText, InputError> {
        self.cut(&without_marks(document), how.document_tokens_max, DOCUMENT_TOKENS_MAX, how)
    }
}

/// A text, and whether its end was cut off.
struct CutText {
    text: Arc<str>,
    is_cut: bool,
}

/// A text without the tokens at which lists are read, as in the reference; here also where removing
/// one makes another. So a text cannot add one.
fn without_marks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    // Both end in this character.
    for piece in text.split_inclusive('>') {
        kept.push_str(piece);
        if let Some(mark) = [QUERY_MARK, DOCUMENT_MARK].iter().find(|mark| kept.ends_with(**mark)) {
            kept.truncate(kept.len() - mark.len());
        }
    }
    kept
}

/// The text of a list.
fn whole(query: &str, documents: &[&str], instruction: Option<&str>) -> String {
    let count = documents.len();
    let mut text = format!(
        "{HEAD}I will provide you with {count} passages, each indicated by a numerical identifier. \
         Rank the passages based on their relevance to query: {query}\n"
    );
    // Writing to a string cannot fail.
    if let Some(instruction) = instruction {
        let _ = writeln!(text, "<instruct>\n{instruction}\n</instruct>");
    }
    for (index, document) in documents.iter().enumerate() {
        let _ = writeln!(text, "<passage id=\"{index}\">\n{document}{DOCUMENT_MARK}\n</passage>");
    }
    let _ = write!(text, "<query>\n{query}{QUERY_MARK}\n</query>{TAIL}");
    text
}

impl SplitLists for JinaReranker {
    fn query_tokens(&self, query: &str, how: &Prepare) -> Result<usize, InputError> {
        let query = self.cut_query(query, how)?;
        Ok(self.tokenizer.plain(&query.text)?.len())
    }

    fn document_tokens(&self, document: &str, how: &Prepare) -> Result<usize, InputError> {
        let document = self.cut_document(document, how)?;
        Ok(self.tokenizer.plain(&document.text)?.len())
    }

    fn template_tokens(&self, query: &str, how: &Prepare) -> Result<usize, InputError> {
        let instruction = self.prompts.asked(&how.prompt)?.map(without_marks);
        let query = self.cut_query(query, how)?;
        Ok(self.tokenizer.plain(&whole(&query.text, &[], instruction.as_deref()))?.len())
    }

    fn split(&self, tokens: &ListTokens<'_>, how: &Prepare) -> Vec<usize> {
        let limit = self.tokenizer.limit(how);
        // As published, a list ends as soon as one more document of the largest size might not fit;
        // here also before one that does not, which the published rule sees only where documents
        // may be much longer than the template.
        let room = limit.saturating_sub(2 * tokens.query);
        let most = how.document_tokens_max.unwrap_or(DOCUMENT_TOKENS_MAX);
        let mut documents = tokens.documents.iter().peekable();
        let (mut lists, mut count, mut sum) = (Vec::new(), 0, 0);
        while let Some(document) = documents.next() {
            count += 1;
            sum += document;
            let next = documents.peek().copied().unwrap_or(&0);
            let whole = tokens.template + sum + next + (count + 1) * self.passage_tokens;
            if count >= DOCUMENTS_MAX || room.saturating_sub(sum) <= most || whole > limit {
                lists.push(count);
                (count, sum) = (0, 0);
            }
        }
        if count > 0 {
            lists.push(count);
        }
        lists
    }
}

impl Recipe for JinaReranker {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.tokenizer
    }

    fn own_prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn lists(&self) -> Option<&dyn SplitLists> {
        Some(self)
    }

    fn check_input(&self) -> Input {
        Input::Listwise {
            query: CHECK_TEXT.into(),
            candidates: vec![CHECK_TEXT.into()],
            template: ListwiseTemplate::default(),
        }
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        match input {
            Input::Listwise { query, candidates, template: ListwiseTemplate::Paper } => {
                self.list(query, candidates, how)
            }
            Input::Listwise { .. } => Err(OWN_TEMPLATE),
            Input::Tokens(ids) => self.tokenizer.given(ids, how),
            Input::Content(_) | Input::Pair { .. } => Err(LISTS_ONLY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_add_a_mark() {
        let nested = "a<|embed_<|rerank_<|embed_token|>token|>token|>b";
        assert_eq!(without_marks(nested), "ab");
        assert_eq!(without_marks("<|rerank_token|><|embed_token|> x"), " x");
    }
}
