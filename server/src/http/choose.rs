//! Chooses the model that answers a request, and calls it; here each call is counted, and the bytes
//! of its response are reserved.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;

use proxima_engine::{
    Caller, EmbedAllAnswer, EmbedAnswer, EmbedRequest, Engine, EngineError, PredictAnswer,
    PredictRequest, RerankAnswer, RerankMethod, RerankRequest, SimilaritiesAnswer, SparseAnswer,
    Timings, TokensAnswer, TokensRequest,
};
use proxima_models::recipes::Token;
use proxima_models::{Content, ModelInfo, Prepare, Prompt};

use super::answer_size::AnswerSize;
use super::scope::Scope;
use super::{App, Failure, TokenIds, access};
use crate::media::MediaFetcher;
use crate::metrics::Endpoint;
use crate::noted::{note_call, note_model};

/// What a request needs from a model.
///
/// A request that names no model is answered by the first model that is made for it, else by the
/// first that is capable of it. If the named model is not capable of it, the request is refused
/// with the names of those that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// One vector per input.
    Embed,
    /// A hidden state for every token.
    Tokens,
    /// One vector per token, for late interaction.
    MultiVectors,
    /// Term weights.
    Sparse,
    /// Documents ranked for a query: rerankers are made for it, embedders are capable of it.
    Rerank,
    /// Scores of pairs: models that score pairs are made for it, embedders are capable of it.
    Score,
    /// Classes, or the score of a single label, of any model with labels.
    Classify,
    /// Tokenization of texts.
    Tokenize,
    /// Decoding of token ids.
    Decode,
}

impl Want {
    /// Whether a model is made for this.
    fn is_purpose_of(self, engine: &Engine) -> bool {
        let method = engine.rerank_method();
        match self {
            Self::Tokens => engine.info().capabilities.embedding.is_some(),
            Self::Rerank => method.is_some_and(|method| method != RerankMethod::Similarity),
            Self::Score => method == Some(RerankMethod::Pointwise),
            _ => self.is_within(engine),
        }
    }

    /// Whether a model is capable of this.
    fn is_within(self, engine: &Engine) -> bool {
        let capabilities = &engine.info().capabilities;
        match self {
            Self::Embed => capabilities.embedding.is_some(),
            Self::MultiVectors => capabilities.multi,
            Self::Sparse => capabilities.sparse,
            Self::Rerank => engine.rerank_method().is_some(),
            Self::Score => {
                capabilities.embedding.is_some()
                    || engine.rerank_method() == Some(RerankMethod::Pointwise)
            }
            Self::Classify => capabilities.labels.is_some(),
            Self::Tokens | Self::Tokenize | Self::Decode => true,
        }
    }

    /// What an incapable model cannot do, as a verb phrase.
    fn verb(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Tokens => "give hidden states",
            Self::MultiVectors => "give token vectors",
            Self::Sparse => "give word weights",
            Self::Rerank => "rerank",
            Self::Score => "score pairs",
            Self::Classify => "classify",
            Self::Tokenize => "tokenize",
            Self::Decode => "decode",
        }
    }
}

/// The model that answers a request.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    app: &'a App,
    name: &'a str,
    engine: &'a Engine,
}

/// What is known about a call before it is made.
struct Call {
    endpoint: Endpoint,
    size: AnswerSize,
    inputs: usize,
}

impl App {
    /// The model that answers a request, by the name in the request or by what the request needs.
    ///
    /// # Errors
    /// An unknown name, or a model that is not ready or not capable of it.
    pub fn choose(&self, model: Option<&str>, want: Want) -> Result<Chosen<'_>, Failure> {
        self.find(model, want).inspect_err(|failure| self.metrics().refused(failure))
    }

    /// As [`choose`](Self::choose), without counting a refusal: for requests that may be tried
    /// elsewhere.
    ///
    /// # Errors
    /// As for `choose`.
    pub fn find(&self, model: Option<&str>, want: Want) -> Result<Chosen<'_>, Failure> {
        let registry = self.registry();
        let found = registry.choose(
            model,
            |engine| want.is_purpose_of(engine),
            |engine| want.is_within(engine),
        );
        let (name, engine) = found?;
        if !want.is_within(engine) {
            note_model(name);
            let able = registry.iter().filter(|(_, engine)| want.is_within(engine));
            let able = able.map(|(name, _)| name.to_owned()).collect();
            return Err(EngineError::Unsupported { what: want.verb(), able }.into());
        }
        Ok(Chosen { app: self, name, engine })
    }
}

impl App {
    /// The name and engine of a model that is asked about; without a name, of the default one.
    ///
    /// # Errors
    /// An unknown name, or a model that is not ready, which is counted.
    pub fn described(&self, model: Option<&str>) -> Result<(&str, &Engine), Failure> {
        let found = self.registry().get(model).map_err(Failure::from);
        found.inspect_err(|failure| self.metrics().refused(failure))
    }
}

impl<'a> Chosen<'a> {
    /// Its served name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Fetches the files of its requests.
    pub fn media(&self) -> &'a Arc<MediaFetcher> {
        self.app.media()
    }

    /// Whether overlong inputs are cut if a request does not say.
    pub fn auto_truncate(&self) -> bool {
        self.app.auto_truncate()
    }

    /// Which token ids are accepted as inputs.
    pub fn token_ids(&self) -> TokenIds {
        self.app.config().token_ids
    }

    /// Its description.
    pub fn info(&self) -> &'a ModelInfo {
        self.engine.info()
    }

    /// The maximum number of inputs of a request.
    pub fn inputs_max(&self) -> usize {
        self.engine.config().inputs_max
    }

    /// How it ranks unless a request selects another method.
    pub fn rerank_method(&self) -> Option<RerankMethod> {
        self.engine.rerank_method()
    }

    /// Computes vectors.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedAnswer, Failure> {
        let inputs = request.inputs.len();
        let (endpoint, size) = (Endpoint::embed(inputs), AnswerSize::embed(&request));
        let call = Call { endpoint, size, inputs };
        let answer = self.call(call, async |engine| engine.embed(request).await).await?;
        self.app.metrics().embedded(self.name, &answer.timings);
        Ok(answer)
    }

    /// Computes the vectors of several requests, all or nothing.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn embed_all(&self, requests: Vec<EmbedRequest>) -> Result<EmbedAllAnswer, Failure> {
        let inputs: usize = requests.iter().map(|request| request.inputs.len()).sum();
        let sizes = requests.iter().map(|request| AnswerSize::embed(request).bytes(self.engine));
        let size = AnswerSize::Bytes(sizes.fold(0, usize::saturating_add));
        let call = Call { endpoint: Endpoint::embed(inputs), size, inputs };
        let answer = self.call(call, async |engine| engine.embed_all(requests).await).await?;
        self.app.metrics().embedded(self.name, &answer.timings);
        Ok(answer)
    }

    /// Computes the hidden states of every token.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn tokens(&self, request: TokensRequest) -> Result<TokensAnswer, Failure> {
        let inputs = request.inputs.len();
        let (endpoint, size) = (Endpoint::embed(inputs), AnswerSize::tokens(&request));
        let call = Call { endpoint, size, inputs };
        let answer = self.call(call, async |engine| engine.tokens(request).await).await?;
        self.app.metrics().embedded(self.name, &answer.timings);
        Ok(answer)
    }

    /// Computes term weights.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn sparse(&self, request: TokensRequest) -> Result<SparseAnswer, Failure> {
        let (size, inputs) = (AnswerSize::sparse(&request), request.inputs.len());
        let call = Call { endpoint: Endpoint::Sparse, size, inputs };
        let answer = self.call(call, async |engine| engine.sparse(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Computes one vector per token, for late interaction.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn multi_vectors(&self, request: TokensRequest) -> Result<TokensAnswer, Failure> {
        let (size, inputs) = (AnswerSize::tokens(&request), request.inputs.len());
        let call = Call { endpoint: Endpoint::Multi, size, inputs };
        let answer = self.call(call, async |engine| engine.multi_vectors(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Ranks documents for a query.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn rerank(&self, request: RerankRequest) -> Result<RerankAnswer, Failure> {
        let (size, inputs) = (AnswerSize::rerank(&request), request.documents.len());
        let call = Call { endpoint: Endpoint::Rerank, size, inputs };
        let answer = self.call(call, async |engine| engine.rerank(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Computes the similarities of pairs, all or nothing.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn similarities(
        &self,
        queries: &[Content],
        documents: &[Content],
        how: &Prepare,
    ) -> Result<SimilaritiesAnswer, Failure> {
        let inputs = documents.len();
        let call = Call { endpoint: Endpoint::Rerank, size: AnswerSize::Scores(inputs), inputs };
        let answer = self
            .call(call, async |engine| engine.similarities(queries, documents, how).await)
            .await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Computes the logits of texts or pairs.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn predict(&self, request: PredictRequest) -> Result<PredictAnswer, Failure> {
        let (size, inputs) = (AnswerSize::predict(&request), request.inputs.len());
        let call = Call { endpoint: Endpoint::Predict, size, inputs };
        let answer = self.call(call, async |engine| engine.predict(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Tokenizes texts.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn tokenize(
        &self,
        texts: Vec<String>,
        special_tokens: bool,
        prompt: Prompt,
    ) -> Result<Vec<Vec<Token>>, Failure> {
        let (size, inputs) = (AnswerSize::tokenize(&texts), texts.len());
        let call = Call { endpoint: Endpoint::Tokenize, size, inputs };
        self.call(call, async |engine| engine.tokenize(texts, special_tokens, prompt).await).await
    }

    /// Decodes token ids to texts.
    ///
    /// # Errors
    /// An exhausted budget, or the engine's error.
    pub async fn decode(
        &self,
        ids: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Result<Vec<String>, Failure> {
        let (size, inputs) = (AnswerSize::decode(&ids), ids.len());
        let call = Call { endpoint: Endpoint::Decode, size, inputs };
        self.call(call, async |engine| engine.decode(ids, skip_special_tokens).await).await
    }

    /// Token counts of texts, for the usage in a response that was computed already. This is not
    /// counted as a request; if it fails, there are no counts.
    pub async fn count_tokens(&self, texts: Vec<String>) -> Vec<usize> {
        let tokens = self.engine.tokenize(texts, false, Prompt::None).await.unwrap_or_default();
        tokens.iter().map(Vec::len).collect()
    }

    fn answered(&self, timings: &Timings) {
        self.app.metrics().answered(self.name, timings);
    }

    /// Makes a call: counts it and its outcome, and reserves the bytes of its response.
    async fn call<T>(
        &self,
        call: Call,
        make: impl AsyncFnOnce(Engine) -> Result<T, EngineError>,
    ) -> Result<T, Failure> {
        let Call { endpoint, size, inputs } = call;
        note_call(self.name, inputs);
        let engine = match Scope::current() {
            None => self.engine.clone(),
            Some(scope) => {
                // A failure is counted with those of handlers: no engine has seen the request.
                scope.reserve(self.app, size.bytes(self.engine)).await?;
                let request_id = access::current().map(|record| record.id());
                self.engine.for_caller(Caller { client: scope.client, request_id })
            }
        };
        let request = self.app.metrics().request(self.name, endpoint);
        let answered = make(engine).await.map_err(Failure::from);
        match &answered {
            Ok(_) => request.succeeded(),
            Err(failure) => request.failed(failure),
        }
        answered
    }
}
