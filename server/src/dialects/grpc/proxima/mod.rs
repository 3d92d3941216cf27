//! Proxima's own gRPC API.
//!
//! Must not know: limits, how streams are read, any other API.

mod convert;
mod items;

use std::sync::Arc;

use proxima_engine::ScoreForm;
use proxima_models::Prompt;
use tonic::{Request, Response, Status, Streaming};

use super::calls::{CallResult, Calls, Replies};
use super::proto::proxima as pb;
use super::status::status;
use crate::dialects::classes::Classes;
use crate::dialects::inputs::{one_prompt, prepare};
use crate::http::{App, Want, WhenFull};

/// The service.
pub struct Proxima(pub Calls);

async fn embed(app: Arc<App>, message: pb::EmbedRequest) -> CallResult<pb::EmbedResponse> {
    let chosen = app.choose(message.model.as_deref(), Want::Embed)?;
    let (request, encoding) = convert::embed_request(&chosen, message).await?;
    let answer = chosen.embed(request).await?;
    let model = chosen.name().to_owned();
    let vectors =
        answer.vectors.into_iter().map(|vector| convert::vector(vector, encoding)).collect();
    let timings = Some(convert::timings(&answer.timings));
    Ok((pb::EmbedResponse { model, vectors, timings }, Some(answer.timings)))
}

async fn rerank(app: Arc<App>, message: pb::RerankRequest) -> CallResult<pb::RerankResponse> {
    let chosen = app.choose(message.model.as_deref(), Want::Rerank)?;
    let top_n = message.top_n;
    let documents = if message.return_documents { items::texts(&message) } else { Vec::new() };
    let answer = chosen.rerank(convert::rerank_request(&chosen, message).await?).await?;
    let model = chosen.name().to_owned();
    let reply = pb::RerankResponse {
        model,
        results: convert::ranked(&answer, top_n, &documents),
        method: convert::method(Some(answer.method)).into(),
        timings: Some(convert::timings(&answer.timings)),
    };
    Ok((reply, Some(answer.timings)))
}

async fn predict(app: Arc<App>, message: pb::PredictRequest) -> CallResult<pb::PredictResponse> {
    let chosen = app.choose(message.model.as_deref(), Want::Classify)?;
    let request = convert::predict_request(message, chosen.auto_truncate())?;
    let answer = chosen.predict(request).await?;
    let model = chosen.name().to_owned();
    let own = Classes::of(chosen.info(), ScoreForm::Probability);
    let each = answer.logits.iter().map(|logits| convert::classes(own.scored(logits)));
    let (results, timings) = (each.collect(), Some(convert::timings(&answer.timings)));
    Ok((pb::PredictResponse { model, results, timings }, Some(answer.timings)))
}

async fn tokenize(app: Arc<App>, message: pb::TokenizeRequest) -> CallResult<pb::TokenizeResponse> {
    let chosen = app.choose(message.model.as_deref(), Want::Tokenize)?;
    let special = message.add_special_tokens.unwrap_or(true);
    one_prompt(message.instruction.as_ref(), message.prompt_name.as_ref())?;
    let prompt: Prompt = prepare(message.instruction, message.prompt_name, true, None).prompt;
    let all = chosen.tokenize(message.texts, special, prompt).await?;
    let results = all.into_iter().map(convert::tokens).collect();
    Ok((pb::TokenizeResponse { results }, None))
}

async fn decode(app: Arc<App>, message: pb::DecodeRequest) -> CallResult<pb::DecodeResponse> {
    let chosen = app.choose(message.model.as_deref(), Want::Decode)?;
    let skip = message.skip_special_tokens.unwrap_or(true);
    let ids = message.inputs.into_iter().map(|tokens| tokens.ids).collect();
    let texts = chosen.decode(ids, skip).await?;
    Ok((pb::DecodeResponse { texts }, None))
}

#[tonic::async_trait]
impl pb::proxima_server::Proxima for Proxima {
    type EmbedStreamStream = Replies<pb::EmbedResponse>;

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

    async fn rerank(
        &self,
        request: Request<pb::RerankRequest>,
    ) -> Result<Response<pb::RerankResponse>, Status> {
        self.0.one(request, WhenFull::Wait, rerank).await
    }

    async fn predict(
        &self,
        request: Request<pb::PredictRequest>,
    ) -> Result<Response<pb::PredictResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, predict).await
    }

    async fn tokenize(
        &self,
        request: Request<pb::TokenizeRequest>,
    ) -> Result<Response<pb::TokenizeResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, tokenize).await
    }

    async fn decode(
        &self,
        request: Request<pb::DecodeRequest>,
    ) -> Result<Response<pb::DecodeResponse>, Status> {
        self.0.one(request, WhenFull::Refuse, decode).await
    }

    async fn models(
        &self,
        _: Request<pb::ModelsRequest>,
    ) -> Result<Response<pb::ModelsResponse>, Status> {
        let registry = self.0.app().registry();
        let models: Vec<_> =
            registry.iter().map(|(name, engine)| convert::model(name, engine)).collect();
        match registry.not_ready().next() {
            Some(model) if models.is_empty() => Err(status(&model.into())),
            _ => Ok(Response::new(pb::ModelsResponse { models })),
        }
    }
}
