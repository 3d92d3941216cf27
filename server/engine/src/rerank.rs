//! Ranks documents for a query: pointwise, listwise or by similarity, as the model allows.
//!
//! Must not know: wire formats, which network computes.

use std::sync::Arc;
use std::time::Instant;

use proxima_models::readout::{ScoreFunction, Similarity, max_sim};
use proxima_models::{Content, Input, InputError, Prepare, Prompt};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::inputs::{InputPart, check_limits, in_bounds};
use crate::job::Vector;
use crate::lists::TEXTS_ONLY;
use crate::request::{
    Listwise, RerankAnswer, RerankMethod, RerankRequest, ScoreForm, SimilaritiesAnswer,
};
use crate::tally::Tally;

/// The error for listwise options with another method.
const NO_LIST: &str = "take listwise options when it ranks by another method";
/// The error for listwise options of E2Rank.
const WHOLE_LISTS: &str = "take listwise options: it reads all documents, in lists of its own";
/// Maximum passes of a listwise request.
const PASSES_MAX: usize = 10;

impl Engine {
    /// How this model ranks by default; `None` if it cannot.
    pub fn rerank_method(&self) -> Option<RerankMethod> {
        let info = self.info();
        let one_label = info.capabilities.labels.as_ref().is_some_and(|labels| labels.len() == 1);
        match (one_label, info.listwise, info.capabilities.embedding.is_some()) {
            (true, ..) => Some(RerankMethod::Pointwise),
            (_, true, _) => Some(RerankMethod::Listwise),
            (_, _, true) => Some(RerankMethod::Similarity),
            _ => None,
        }
    }

    /// Ranks documents. Dropping the future drops its jobs that have not run.
    ///
    /// # Errors
    /// See [`EngineError`]; a request succeeds or fails as a whole.
    pub async fn rerank(&self, request: RerankRequest) -> Result<RerankAnswer, EngineError> {
        let started = Instant::now();
        let own = self.rerank_method().ok_or(EngineError::unsupported("rerank"))?;
        let method = request.method.unwrap_or(own);
        self.check_rerank(&request, own, method)?;
        let function = match request.scores {
            ScoreForm::Probability => ScoreFunction::Sigmoid,
            ScoreForm::Checkpoint => {
                self.info().scores.map_or(ScoreFunction::Sigmoid, |scores| scores.pairs)
            }
        };
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let sorted = |raw: Vec<f32>| {
            let order = ranked(&raw);
            (raw, order)
        };
        let (raw, order) = match method {
            RerankMethod::Pointwise => sorted(self.pointwise(request, &mut tally).await?),
            RerankMethod::Similarity => sorted(self.similarity(request, &mut tally).await?),
            RerankMethod::MaxSim => sorted(self.max_sim(request, &mut tally).await?),
            RerankMethod::Listwise if self.info().capabilities.lists => {
                sorted(self.by_lists(request, &mut tally).await?)
            }
            RerankMethod::Listwise => self.listwise(request, &mut tally).await?,
        };
        Ok(RerankAnswer { raw, function, order, method, timings: tally.timings(started) })
    }

    fn check_rerank(
        &self,
        request: &RerankRequest,
        own: RerankMethod,
        method: RerankMethod,
    ) -> Result<(), EngineError> {
        let capabilities = &self.info().capabilities;
        let can = method == own
            || (method == RerankMethod::Similarity && capabilities.embedding.is_some())
            || (method == RerankMethod::MaxSim && capabilities.multi);
        if !can {
            return Err(EngineError::unsupported(match method {
                RerankMethod::Pointwise => "rank pointwise: it has no score head",
                RerankMethod::Listwise => {
                    "rank listwise: it is no model for that, as E2Rank and jina-reranker-v3 are"
                }
                RerankMethod::Similarity => "rank by similarity: it gives no vectors",
                RerankMethod::MaxSim => "rank by maxsim: it gives no token vectors",
            }));
        }
        let (count, limit) = (request.documents.len(), self.config().inputs_max);
        match count {
            0 => return Err(EngineError::Empty),
            _ if count > limit => return Err(EngineError::TooManyInputs { count, limit }),
            _ => {}
        }
        let width = self.info().capabilities.embedding;
        check_vectors(&request.document_vectors, count, width)?;
        // Listwise prompts have no slot for a document's instruction, and vectors that were sent
        // are final.
        let fixed = method == RerankMethod::Listwise || !request.document_vectors.is_empty();
        let instructed = |document: &Content| document.instruction().is_some();
        if fixed && let Some(index) = request.documents.iter().position(instructed) {
            return Err(EngineError::Input { index, source: InputError::DocumentInstruction });
        }
        if request.listwise != Listwise::default() {
            match method {
                RerankMethod::Listwise if capabilities.lists => {
                    return Err(EngineError::unsupported(WHOLE_LISTS));
                }
                RerankMethod::Listwise => {}
                _ => return Err(EngineError::unsupported(NO_LIST)),
            }
        }
        let Listwise { candidates, step, passes, .. } = request.listwise;
        check_limits(&request.prepare)?;
        in_bounds("the number of listwise candidates", candidates, 1..=limit)?;
        in_bounds("the number of listwise passes", passes, 1..=PASSES_MAX)?;
        step.map_or(Ok(()), |step| in_bounds("the step between windows", step, 1..=candidates))
    }

    async fn pointwise(
        &self,
        request: RerankRequest,
        tally: &mut Tally,
    ) -> Result<Vec<f32>, EngineError> {
        let query = request.query;
        let pair = |document| Input::Pair { query: query.clone(), document };
        let inputs = request.documents.into_iter().map(pair).collect();
        let logits = self.logits(inputs, request.prepare, tally).await?;
        Ok(logits.into_iter().map(|logits| logits[0]).collect())
    }

    async fn similarity(
        &self,
        request: RerankRequest,
        tally: &mut Tally,
    ) -> Result<Vec<f32>, EngineError> {
        let how = of_query(&request.prepare);
        let query = InputPart::only(vec![request.query.clone().into()], how);
        let query = self.vectors(query, tally).await?;
        let documents = self.document_vectors(&request, tally).await?;
        let similarity = self.info().similarity;
        Ok(documents.iter().map(|document| similarity.of(&query[0], document)).collect())
    }

    /// The similarity of each query with the document of the same index; all are embedded together.
    /// An invalid input is reported by the index of its pair.
    ///
    /// # Errors
    /// See [`EngineError`]; a request succeeds or fails as a whole.
    ///
    /// # Panics
    /// If there are not as many documents as queries.
    pub async fn similarities(
        &self,
        queries: &[Content],
        documents: &[Content],
        how: &Prepare,
    ) -> Result<SimilaritiesAnswer, EngineError> {
        let started = Instant::now();
        if self.info().capabilities.embedding.is_none() {
            return Err(EngineError::unsupported("compare texts: it gives no vectors"));
        }
        let count = queries.len();
        assert_eq!(documents.len(), count, "a document a query");
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let parts = vec![
            InputPart {
                inputs: queries.iter().cloned().map(Input::Content).collect(),
                how: of_query(how),
            },
            InputPart {
                inputs: documents.iter().cloned().map(Input::Content).collect(),
                how: of_document(how),
            },
        ];
        let vectors = self.vectors(parts, &mut tally).await;
        let vectors = vectors.map_err(|error| error.at(|index| index % count))?;
        let (queries, documents) = vectors.split_at(count);
        let similarity = self.info().similarity;
        let pairs = queries.iter().zip(documents);
        let values = pairs.map(|(query, document)| similarity.of(query, document)).collect();
        Ok(SimilaritiesAnswer { values, timings: tally.timings(started) })
    }

    async fn max_sim(
        &self,
        request: RerankRequest,
        tally: &mut Tally,
    ) -> Result<Vec<f32>, EngineError> {
        let how = &request.prepare;
        let of_query = limited(how, how.query_tokens_max);
        let query = self.token_vectors(vec![request.query.clone().into()], of_query, tally).await?;
        let inputs = request.documents.iter().cloned().map(Input::Content).collect();
        let of_documents = limited(how, how.document_tokens_max);
        let documents = self.token_vectors(inputs, of_documents, tally).await?;
        Ok(documents.iter().map(|document| max_sim(&query[0], document)).collect())
    }

    /// Vectors of the documents: those sent, or cached or computed ones.
    async fn document_vectors(
        &self,
        request: &RerankRequest,
        tally: &mut Tally,
    ) -> Result<Vec<Vector>, EngineError> {
        if !request.document_vectors.is_empty() {
            return Ok(request
                .document_vectors
                .iter()
                .map(|vector| Arc::from(&vector[..]))
                .collect());
        }
        let inputs = request.documents.iter().cloned().map(Input::Content).collect();
        self.vectors(InputPart::only(inputs, of_document(&request.prepare)), tally).await
    }

    /// The cosine of each document with the last pseudo-query that scored it, and the order.
    /// Windows have different pseudo-queries, so a score above that of the document ranked before
    /// it is lowered to that: scores agree with the order.
    async fn listwise(
        &self,
        request: RerankRequest,
        tally: &mut Tally,
    ) -> Result<(Vec<f32>, Vec<usize>), EngineError> {
        let documents = self.document_vectors(&request, tally).await?;
        let mut order: Vec<usize> = (0..documents.len()).collect();
        let mut raw = vec![0.0; documents.len()];
        for _ in 0..request.listwise.passes {
            for (window, scored) in windows(documents.len(), &request.listwise) {
                let seen: Vec<usize> = order[window].to_vec();
                let pseudo = self.pseudo_query(&request, &seen, tally).await?;
                let part = &mut order[scored];
                // As published: by cosine, whatever similarity the model uses otherwise.
                let cosine = Similarity::default();
                for index in part.iter() {
                    raw[*index] = cosine.of(&pseudo, &documents[*index]);
                }
                part.sort_by(|a, b| raw[*b].total_cmp(&raw[*a]));
            }
        }
        for pair in 1..order.len() {
            raw[order[pair]] = raw[order[pair]].min(raw[order[pair - 1]]);
        }
        Ok((raw, order))
    }

    async fn pseudo_query(
        &self,
        request: &RerankRequest,
        seen: &[usize],
        tally: &mut Tally,
    ) -> Result<Vector, EngineError> {
        let text = |content: &Content| content.text().ok_or(TEXTS_ONLY);
        let candidates = seen.iter().map(|index| text(&request.documents[*index]));
        let candidates = candidates.collect::<Result<_, _>>()?;
        let (query, template) = (text(&request.query)?, request.listwise.template.clone());
        let input = Input::Listwise { query, candidates, template };
        let input = InputPart::only(vec![input], request.prepare.clone());
        let mut vectors = self.vectors(input, tally).await?;
        vectors.pop().ok_or(EngineError::Empty)
    }
}

/// How to prepare a query that is embedded alone.
fn of_query(how: &Prepare) -> Prepare {
    let prompt = match &how.prompt {
        Prompt::Default => Prompt::query(),
        asked => asked.clone(),
    };
    Prepare { prompt, ..limited(how, how.query_tokens_max) }
}

/// How to prepare a document that is embedded alone.
fn of_document(how: &Prepare) -> Prepare {
    Prepare { prompt: Prompt::document(), ..limited(how, how.document_tokens_max) }
}

/// How to prepare a query or document that is embedded alone: within the smaller of its own token
/// limit and that of all sequences.
fn limited(how: &Prepare, own: Option<usize>) -> Prepare {
    let tokens_max = match (own, how.tokens_max) {
        (Some(own), Some(all)) => Some(own.min(all)),
        (own, all) => own.or(all),
    };
    Prepare { tokens_max, ..how.clone() }
}

/// Ranges of the order of `count` documents: those a pseudo-query is made from, and those it scores
/// and sorts. Without windows, that is the first candidates and all documents; with windows, each
/// window for both, from the last to the first.
fn windows(
    count: usize,
    listwise: &Listwise,
) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let size = listwise.candidates.min(count);
    let Some(step) = listwise.step else { return vec![(0..size, 0..count)] };
    let mut end = count;
    let mut windows = Vec::new();
    loop {
        let start = end.saturating_sub(size);
        windows.push((start..end, start..end));
        if start == 0 {
            return windows;
        }
        // As published, the last window is shorter if the count does not divide evenly.
        end -= step;
    }
}

/// Indices by score, best first; ties keep their order.
fn ranked(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order
}

fn check_vectors(
    vectors: &[Vec<f32>],
    documents: usize,
    width: Option<usize>,
) -> Result<(), EngineError> {
    if vectors.is_empty() {
        return Ok(());
    }
    let wrong = |problem: String| Err(EngineError::DocumentVectors { problem });
    let Some(width) = width else {
        return wrong("this model does not rank by them; leave them out".into());
    };
    if vectors.len() != documents {
        return wrong(format!("{} for {documents} documents", vectors.len()));
    }
    for (index, vector) in vectors.iter().enumerate() {
        if vector.len() != width {
            return wrong(format!("vector {index} has {} elements, not {width}", vector.len()));
        }
        if !vector.iter().all(|number| number.is_finite()) {
            return wrong(format!("vector {index} has an element that is not finite"));
        }
        if vector.iter().all(|number| *number == 0.0) {
            return wrong(format!("vector {index} is zero"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listwise(candidates: usize, step: Option<usize>) -> Listwise {
        Listwise { candidates, step, ..Listwise::default() }
    }

    #[test]
    fn windows_go_from_the_back_and_end_at_the_front() {
        let of = |count, step| {
            let windows = windows(count, &listwise(20, step)).into_iter();
            windows.map(|(seen, _)| (seen.start, seen.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(100, None), [(0, 20)]);
        assert_eq!(of(45, Some(10)), [(25, 45), (15, 35), (5, 25), (0, 15)]);
        assert_eq!(of(100, Some(10)).len(), 9);
        assert_eq!(of(7, Some(10)), [(0, 7)]);
        assert_eq!(windows(26, &listwise(20, None))[0].1, 0..26);
    }

    #[test]
    fn equal_scores_keep_the_order_of_the_documents() {
        assert_eq!(ranked(&[0.5, 0.9, 0.5, 0.9, -1.0]), [1, 3, 0, 2, 4]);
    }
}
