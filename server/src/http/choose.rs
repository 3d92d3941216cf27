//! Which model answers a request, chosen once, and calls of it: each is counted, and its answer's
//! bytes reserved, in one place.
//!
//! Must not know: any dialect's bodies.

use proxima_engine::{
    EmbedAllAnswer, EmbedAnswer, EmbedRequest, Engine, EngineError, PredictAnswer, PredictRequest,
    RerankAnswer, RerankMethod, RerankRequest, SimilaritiesAnswer, SparseAnswer, Timings,
    TokensAnswer, TokensRequest,
};
use proxima_models::recipes::Token;
use proxima_models::{Content, ModelInfo, Prepare, Prompt};

use super::answer_size::AnswerSize;
use super::scope::Scope;
use super::{App, Failure};
use crate::metrics::Endpoint;
use crate::noted::note_call;

/// What a request wants of a model.
///
/// A request that names no model is answered by the first that is made for it, else by the first
/// that is able to; a request that names one which is not able is refused, with the names of those
/// that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// One vector an input.
    Embed,
    /// A hidden state for every token.
    Tokens,
    /// One vector a token, for late interaction.
    MultiVectors,
    /// Weights of words.
    Sparse,
    /// Documents ranked for a query: rerankers are made for it, embedders can.
    Rerank,
    /// Scores of pairs: models that score pairs are made for it, embedders can.
    Score,
    /// Classes: of models with labels, rerankers among them.
    Classify,
    /// Tokens of texts.
    Tokenize,
    /// Texts of tokens.
    Decode,
}

impl Want {
    /// Whether a model is made for it.
    fn is_purpose_of(self, engine: &Engine) -> bool {
        let (capabilities, method) = (&engine.info().capabilities, engine.rerank_method());
        match self {
            Self::Embed | Self::Tokens => capabilities.embedding.is_some(),
            Self::MultiVectors => capabilities.multi,
            Self::Sparse => capabilities.sparse,
            Self::Rerank => method.is_some_and(|method| method != RerankMethod::Similarity),
            Self::Score => method == Some(RerankMethod::Pointwise),
            Self::Classify => capabilities.labels.is_some(),
            Self::Tokenize | Self::Decode => true,
        }
    }

    /// Whether a model is able to.
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

    /// What a model is not able to do, as a verb phrase.
    fn verb(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Tokens => "give hidden states",
            Self::MultiVectors => "give a vector a token",
            Self::Sparse => "give weights of words",
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

/// What is known of a call before it is made.
struct Call {
    endpoint: Endpoint,
    size: AnswerSize,
    inputs: usize,
}

impl App {
    /// The model that answers a request, by the name that the request gives or by what it wants.
    ///
    /// # Errors
    /// An unknown name, a model that is not ready, or one that is not able to.
    pub fn choose(&self, model: Option<&str>, want: Want) -> Result<Chosen<'_>, Failure> {
        self.find(model, want).inspect_err(|failure| self.metrics().refused(failure))
    }

    /// As [`choose`](Self::choose), without counting a refusal: for requests that may go elsewhere.
    ///
    /// # Errors
    /// As of `choose`.
    pub fn find(&self, model: Option<&str>, want: Want) -> Result<Chosen<'_>, Failure> {
        let registry = self.registry();
        let found = registry.choose(model, |it| want.is_purpose_of(it), |it| want.is_within(it));
        let (name, engine) = found?;
        if !want.is_within(engine) {
            let able = registry.iter().filter(|(_, engine)| want.is_within(engine));
            let able = able.map(|(name, _)| name.to_owned()).collect();
            return Err(EngineError::Unsupported { what: want.verb(), able }.into());
        }
        Ok(Chosen { app: self, name, engine })
    }
}

impl<'a> Chosen<'a> {
    /// Its served name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What it tells of itself.
    pub fn info(&self) -> &'a ModelInfo {
        self.engine.info()
    }

    /// Inputs that a request may have.
    pub fn inputs_max(&self) -> usize {
        self.engine.config().inputs_max
    }

    /// How it ranks unless a request asks for another method.
    pub fn rerank_method(&self) -> Option<RerankMethod> {
        self.engine.rerank_method()
    }

    /// Vectors.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedAnswer, Failure> {
        let inputs = request.inputs.len();
        let (endpoint, size) = (Endpoint::embed(inputs), AnswerSize::embed(&request));
        let call = Call { endpoint, size, inputs };
        let answer = self.call(call, async |engine| engine.embed(request).await).await?;
        self.app.metrics().embedded(self.name, &answer.timings);
        Ok(answer)
    }

    /// Vectors of several requests, answered whole or not at all.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn embed_all(&self, requests: Vec<EmbedRequest>) -> Result<EmbedAllAnswer, Failure> {
        let inputs = requests.iter().map(|request| request.inputs.len()).sum();
        let sizes = requests.iter().map(|request| AnswerSize::embed(request).bytes(self.engine));
        let size = AnswerSize::Bytes(sizes.fold(0, usize::saturating_add));
        let call = Call { endpoint: Endpoint::Batch, size, inputs };
        let answer = self.call(call, async |engine| engine.embed_all(requests).await).await?;
        self.app.metrics().embedded(self.name, &answer.timings);
        Ok(answer)
    }

    /// Hidden states of every token.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn tokens(&self, request: TokensRequest) -> Result<TokensAnswer, Failure> {
        let inputs = request.inputs.len();
        let (endpoint, size) = (Endpoint::embed(inputs), AnswerSize::tokens(&request));
        let call = Call { endpoint, size, inputs };
        let answer = self.call(call, async |engine| engine.tokens(request).await).await?;
        self.app.metrics().embedded(self.name, &answer.timings);
        Ok(answer)
    }

    /// Weights of words.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn sparse(&self, request: TokensRequest) -> Result<SparseAnswer, Failure> {
        let (size, inputs) = (AnswerSize::sparse(&request), request.inputs.len());
        let call = Call { endpoint: Endpoint::Sparse, size, inputs };
        let answer = self.call(call, async |engine| engine.sparse(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// One vector a token, for late interaction.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn multi_vectors(&self, request: TokensRequest) -> Result<TokensAnswer, Failure> {
        let (size, inputs) = (AnswerSize::tokens(&request), request.inputs.len());
        let call = Call { endpoint: Endpoint::Multi, size, inputs };
        let answer = self.call(call, async |engine| engine.multi_vectors(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Documents ranked for a query.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn rerank(&self, request: RerankRequest) -> Result<RerankAnswer, Failure> {
        let (size, inputs) = (AnswerSize::rerank(&request), request.documents.len());
        let call = Call { endpoint: Endpoint::Rerank, size, inputs };
        let answer = self.call(call, async |engine| engine.rerank(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// Similarities of pairs, answered whole or not at all.
    ///
    /// # Errors
    /// What the engine says.
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

    /// Logits of texts or pairs.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn predict(&self, request: PredictRequest) -> Result<PredictAnswer, Failure> {
        let (size, inputs) = (AnswerSize::predict(&request), request.inputs.len());
        let call = Call { endpoint: Endpoint::Predict, size, inputs };
        let answer = self.call(call, async |engine| engine.predict(request).await).await?;
        self.answered(&answer.timings);
        Ok(answer)
    }

    /// The tokens of texts.
    ///
    /// # Errors
    /// What the engine says.
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

    /// The texts of token ids.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn decode(
        &self,
        ids: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Result<Vec<String>, Failure> {
        let (size, inputs) = (AnswerSize::decode(&ids), ids.len());
        let call = Call { endpoint: Endpoint::Decode, size, inputs };
        self.call(call, async |engine| engine.decode(ids, skip_special_tokens).await).await
    }

    /// Tokens of texts for the usage of an answer that was computed already: without counting a
    /// request, and 0 where counting fails.
    pub async fn count_tokens(&self, texts: Vec<String>) -> Vec<usize> {
        let tokens = self.engine.tokenize(texts, false, Prompt::None).await.unwrap_or_default();
        tokens.iter().map(Vec::len).collect()
    }

    fn answered(&self, timings: &Timings) {
        self.app.metrics().answered(self.name, timings);
    }

    /// Makes a call: counts it and its outcome, and reserves the bytes of its answer.
    async fn call<T>(
        &self,
        call: Call,
        make: impl AsyncFnOnce(Engine) -> Result<T, EngineError>,
    ) -> Result<T, Failure> {
        let Call { endpoint, size, inputs } = call;
        note_call(self.name, inputs);
        let request = self.app.metrics().request(self.name, endpoint);
        let answered = async {
            let Some(scope) = Scope::current() else {
                return Ok(make(self.engine.clone()).await?);
            };
            scope.reserve(self.app, size.bytes(self.engine)).await?;
            Ok(make(self.engine.for_client(scope.client)).await?)
        };
        let answered = answered.await;
        match &answered {
            Ok(_) => request.succeeded(),
            Err(failure) => request.failed(failure),
        }
        answered
    }
}
