//! Ranking by a model that reads whole lists: documents are split into lists, each is read with the
//! query, and the scores of all are computed together.
//!
//! Must not know: wire formats, templates.

use std::sync::Arc;

use proxima_models::readout::combine_lists;
use proxima_models::recipes::{Cancelled, ListTokens, Recipe};
use proxima_models::{Content, Input, InputError, ListwiseTemplate};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::job::Reply;
use crate::request::RerankRequest;
use crate::tally::Tally;

/// The error for images or videos in listwise ranking.
pub const TEXTS_ONLY: EngineError =
    EngineError::unsupported("rank images or videos listwise; it takes only texts");

/// A text whose tokens are counted before lists are made.
enum Counted {
    Query(Arc<str>),
    /// A list without documents.
    Template(Arc<str>),
    Document(Arc<str>),
}

impl Engine {
    /// The score of each document, in their order.
    pub(crate) async fn by_lists(
        &self,
        request: RerankRequest,
        tally: &mut Tally,
    ) -> Result<Vec<f32>, EngineError> {
        let text = |content: &Content| content.text().ok_or(TEXTS_ONLY);
        let query = text(&request.query)?;
        let documents = request.documents.iter().map(text);
        let documents: Vec<Arc<str>> = documents.collect::<Result<_, _>>()?;
        let lists = self.split(&query, &documents, &request, tally).await?;
        let starts: Vec<usize> = lists
            .iter()
            .scan(0, |next, list| Some(std::mem::replace(next, *next + list.len())))
            .collect();
        let inputs = lists.into_iter().map(|candidates| Input::Listwise {
            query: query.clone(),
            candidates,
            template: ListwiseTemplate::default(),
        });
        let vectors = self.each(inputs.collect(), request.prepare, tally, Reply::List).await;
        // What is wrong with a list is reported at its first document.
        let vectors = vectors.map_err(|error| error.at(|list| starts[list]))?;
        Ok(combine_lists(&vectors))
    }

    /// The documents of each list, in order.
    async fn split(
        &self,
        query: &Arc<str>,
        documents: &[Arc<str>],
        request: &RerankRequest,
        tally: &mut Tally,
    ) -> Result<Vec<Vec<Arc<str>>>, EngineError> {
        let how = request.prepare.clone();
        let around = [Counted::Query(query.clone()), Counted::Template(query.clone())];
        let texts: Vec<Counted> =
            around.into_iter().chain(documents.iter().cloned().map(Counted::Document)).collect();
        let bytes = query.len() + documents.iter().map(|text| text.len()).sum::<usize>();
        let each = move |recipe: &dyn Recipe, text: &Counted, _: Cancelled<'_>| {
            let lists = recipe.lists().ok_or(NO_LISTS)?;
            match text {
                Counted::Query(text) => lists.query_tokens(text, &how),
                Counted::Template(query) => lists.template_tokens(query, &how),
                Counted::Document(text) => lists.document_tokens(text, &how),
            }
        };
        let counts = self.measure(texts, bytes, each, tally).await.map_err(|error| {
            // Two texts come before the documents.
            error.at(|index| index.saturating_sub(2))
        })?;
        let &[query, template, ref of_documents @ ..] = &counts[..] else { return Ok(Vec::new()) };
        let tokens = ListTokens { query, template, documents: of_documents };
        let lists = self.handle.recipe.lists().ok_or(EngineError::unsupported("rank listwise"))?;
        let mut rest = documents;
        let sizes = lists.split(&tokens, &request.prepare);
        Ok(sizes
            .into_iter()
            .map(|size| {
                let (list, after) = rest.split_at(size);
                rest = after;
                list.to_vec()
            })
            .collect())
    }
}

/// The error for a recipe that reads no lists.
const NO_LISTS: InputError = InputError::Kind("reads no lists");
