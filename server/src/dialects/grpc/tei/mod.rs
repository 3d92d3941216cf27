//! The gRPC API of text-embeddings-inference.
//!
//! Must not know: limits, how streams are read, Proxima's own API.

mod convert;

use std::sync::Arc;

use proxima_engine::{PredictRequest, ScoreForm};
use tonic::{Request, Response, Status, Streaming};

use super::calls::{CallResult, Calls, Replies};
use super::proto::tei as pb;
use crate::dialects::classes::Classes;
use crate::dialects::inputs::prepare;
use crate::http::{App, Failure, Want, WhenFull};

/// Implements all of its services.
pub struct Tei(pub Calls);

async fn embed(app: Arc<App>, message: pb::EmbedRequest) -> CallResult<pb::EmbedResponse> {
    let chosen = app.choose(None, Want::Embed)?;
    let answer = chosen.embed(convert::embed_request(message)?).await?;
    let metadata = Some(convert::metadata(&answer.timings));
    let embeddings = answer.vectors.into_iter().next().unwrap_or_default();
    Ok((pb::EmbedResponse { embeddings, metadata }, Some(answer.timings)))
}

async fn embed_sparse(
    app: Arc<App>,
    message: pb::EmbedSparseRequest,
) -> CallResult<pb::EmbedSparseResponse> {
    let chosen = app.choose(None, Want::Sparse)?;
    let answer = chosen.sparse(convert::sparse_request(message)?).await?;
    let metadata = Some(convert::metadata(&answer.timings));
    let weights = answer.weights.into_iter().next().unwrap_or_default();
    let value = |(index, value)| pb::SparseValue { index, value };
    let sparse_embeddings = weights.into_iter().map(value).collect();
    Ok((pb::EmbedSparseResponse { sparse_embeddings, metadata }, Some(answer.timings)))
}

async fn embed_all(
    app: Arc<App>,
    message: pb::EmbedAllRequest,
) -> CallResult<pb::EmbedAllResponse> {
    let chosen = app.choose(None, Want::Tokens)?;
    let answer = chosen.tokens(convert::tokens_request(message)?).await?;
    let metadata = Some(convert::metadata(&answer.timings));
    let rows = answer.rows.into_iter().next().unwrap_or_default();
    let token_embeddings =
        rows.into_iter().map(|embeddings| pb::TokenEmbedding { embeddings }).collect();
    Ok((pb::EmbedAllResponse { token_embeddings, metadata }, Some(answer.timings)))
}

async fn predict(app: Arc<App>, message: pb::PredictRequest) -> CallResult<pb::PredictResponse> {
    let raw_scores = message.raw_scores;
    classes(app, convert::predict_request(message)?, raw_scores).await
}

async fn predict_pair(
    app: Arc<App>,
    message: pb::PredictPairRequest,
) -> CallResult<pb::PredictResponse> {
    let raw_scores = message.raw_scores;
    classes(app, convert::pair_request(message)?, raw_scores).await
}

async fn classes(
    app: Arc<App>,
    request: PredictRequest,
    raw_scores: bool,
) -> CallResult<pb::PredictResponse> {
    let chosen = app.choose(None, Want::Classify)?;
    let answer = chosen.predict(request).await?;
    let metadata = Some(convert::metadata(&answer.timings));
    let logits = answer.logits.into_iter().next().unwrap_or_default();
    let scored = Classes::of(chosen.info(), ScoreForm::Probability).scored(&logits);
    let predictions =
        scored.into_iter().map(|class| convert::prediction(class, raw_scores)).collect();
    Ok((pb::PredictResponse { predictions, metadata }, Some(answer.timings)))
}

async fn rerank(
    app: Arc<App>,
    message: Result<pb::RerankRequest, Failure>,
) -> CallResult<pb::RerankResponse> {
    let message = message?;
    let raw_scores = message.raw_scores;
    let texts = if message.return_text { message.texts.clone() } else { Vec::new() };
    let chosen = app.choose(None, Want::Rerank)?;
    let answer = chosen.rerank(convert::rerank_request(message)?).await?;
    Ok((convert::ranks(&answer, &texts, raw_scores), Some(answer.timings)))
}

async fn tokenize(app: Arc<App>, message: pb::EncodeRequest) -> CallResult<pb::EncodeResponse> {
    let prompt = prepare(None, message.prompt_name, true, None).prompt;
    let texts = vec![convert::text(message.inputs)?];
    let chosen = app.choose(None, Want::Tokenize)?;
    let tokens = chosen.tokenize(texts, message.add_special_tokens, prompt).await?;
    let tokens = tokens.into_iter().flatten().map(convert::token).collect();
    Ok((pb::EncodeResponse { tokens }, None))
}

async fn decode(app: Arc<App>, message: pb::DecodeRequest) -> CallResult<pb::DecodeResponse> {
    // An absent list arrives empty, and counts as no list.
    let ids = Some(message.ids).filter(|ids| !ids.is_empty()).into_iter().collect();
    let chosen = app.choose(None, Want::Decode)?;
    let texts = chosen.decode(ids, message.skip_special_tokens).await?;
    Ok((pb::DecodeResponse { text: texts.concat() }, None))
}

#[tonic::async_trait]
impl pb::info_server::Info for Tei {
    async fn info(
        &self,
        _: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::InfoResponse>, Status> {
        let info = convert::info(self.0.app());
        info.map(Response::new).map_err(|failure| super::status::status(&failure))
    }
}

#[tonic::async_trait]
impl pb::embed_server::Embed for Tei {
    type EmbedStreamStream = Replies<pb::EmbedResponse>;
    type EmbedSparseStreamStream = Replies<pb::EmbedSparseResponse>;
    type EmbedAllStreamStream = Replies<pb::EmbedAllResponse>;

    async fn embed(
        &self,
        request: Request<pb::EmbedRequest>,
    ) -> Result<Response<pb::EmbedResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, embed).await
    }

    async fn embed_stream(
        &self,
        messages: Request<Streaming<pb::EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        Ok(self.0.each(messages, embed))
    }

    async fn embed_sparse(
        &self,
        request: Request<pb::EmbedSparseRequest>,
    ) -> Result<Response<pb::EmbedSparseResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, embed_sparse).await
    }

    async fn embed_sparse_stream(
        &self,
        messages: Request<Streaming<pb::EmbedSparseRequest>>,
    ) -> Result<Response<Self::EmbedSparseStreamStream>, Status> {
        Ok(self.0.each(messages, embed_sparse))
    }

    async fn embed_all(
        &self,
        request: Request<pb::EmbedAllRequest>,
    ) -> Result<Response<pb::EmbedAllResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, embed_all).await
    }

    async fn embed_all_stream(
        &self,
        messages: Request<Streaming<pb::EmbedAllRequest>>,
    ) -> Result<Response<Self::EmbedAllStreamStream>, Status> {
        Ok(self.0.each(messages, embed_all))
    }
}

#[tonic::async_trait]
impl pb::predict_server::Predict for Tei {
    type PredictStreamStream = Replies<pb::PredictResponse>;
    type PredictPairStreamStream = Replies<pb::PredictResponse>;

    async fn predict(
        &self,
        request: Request<pb::PredictRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, predict).await
    }

    async fn predict_pair(
        &self,
        request: Request<pb::PredictPairRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, predict_pair).await
    }

    async fn predict_stream(
        &self,
        messages: Request<Streaming<pb::PredictRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        Ok(self.0.each(messages, predict))
    }

    async fn predict_pair_stream(
        &self,
        messages: Request<Streaming<pb::PredictPairRequest>>,
    ) -> Result<Response<Self::PredictPairStreamStream>, Status> {
        Ok(self.0.each(messages, predict_pair))
    }
}

#[tonic::async_trait]
impl pb::rerank_server::Rerank for Tei {
    async fn rerank(
        &self,
        request: Request<pb::RerankRequest>,
    ) -> Result<Response<pb::RerankResponse>, Status> {
        self.0.one(request.map(Ok), WhenFull::Wait, rerank).await
    }

    async fn rerank_stream(
        &self,
        messages: Request<Streaming<pb::RerankStreamRequest>>,
    ) -> Result<Response<pb::RerankResponse>, Status> {
        let message = self.0.all(messages, Want::Rerank).await?.map(convert::gathered);
        self.0.one(message, WhenFull::Wait, rerank).await
    }
}

#[tonic::async_trait]
impl pb::tokenize_server::Tokenize for Tei {
    type TokenizeStreamStream = Replies<pb::EncodeResponse>;
    type DecodeStreamStream = Replies<pb::DecodeResponse>;

    async fn tokenize(
        &self,
        request: Request<pb::EncodeRequest>,
    ) -> Result<Response<pb::EncodeResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, tokenize).await
    }

    async fn tokenize_stream(
        &self,
        messages: Request<Streaming<pb::EncodeRequest>>,
    ) -> Result<Response<Self::TokenizeStreamStream>, Status> {
        Ok(self.0.each(messages, tokenize))
    }

    async fn decode(
        &self,
        request: Request<pb::DecodeRequest>,
    ) -> Result<Response<pb::DecodeResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, decode).await
    }

    async fn decode_stream(
        &self,
        messages: Request<Streaming<pb::DecodeRequest>>,
    ) -> Result<Response<Self::DecodeStreamStream>, Status> {
        Ok(self.0.each(messages, decode))
    }
}
