//! The HTTP API of text-embeddings-inference.

mod convert;
mod error;
mod schema;
mod types;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::classes::Classes;
use super::dialect::{Dialect, Keys, Purpose, ResponseFuture, SharedRoute, handle, read, respond};
use super::ranking::{ranked, with_method};
use crate::encoding::EncodedVector;
use crate::http::{
    App, Failure, JsonBody, PathText, RawBody, Routes, Want, json_response, with_timings,
};
use schema::{DefaultAnswer, DefaultBody};
use types::{
    DecodeBody, EmbedAllBody, EmbedBody, ErrorBody, InfoAnswer, PredictBody, Predictions, Rank,
    Ranks, RerankBody, SimilarityBody, SparseValue, TokenEntry, TokenizeBody, VertexAnswer,
    VertexBody,
};

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "tei",
        owns: |_| true,
        routes,
        shared: || {
            vec![SharedRoute {
                purpose: Purpose::Rerank,
                path: None,
                body: "TeiRerankBody",
                answers: &["TeiRanks"],
                claims: |keys| keys.any(&["texts"]),
                answer: |app, body| -> ResponseFuture {
                    Box::pin(handle(app, body, error::failure, rerank))
                },
            }]
        },
        failure: error::failure,
        error: "TeiErrorBody",
        openapi: Api::openapi,
    }
}

fn routes() -> Routes {
    Routes::new()
        .post(&["/embed"], embed)
        .post(&["/embed_sparse"], embed_sparse)
        .post(&["/predict"], predict)
        .post(&["/", "/invocations"], default)
        .post(&["/embed_all"], embed_all)
        .post(&["/similarity"], similarity)
        .post(&["/tokenize"], tokenize)
        .post(&["/decode"], decode)
        .post(&["/vertex"], vertex)
        .get(&["/info"], info)
        .get(&["/info/{*model}"], info_of)
        .get(&["/health", "/ping", "/"], health)
}

#[derive(OpenApi)]
#[openapi(
    paths(
        default,
        embed,
        embed_all,
        embed_sparse,
        predict,
        similarity,
        tokenize,
        decode,
        vertex,
        info,
        info_of,
        health
    ),
    components(schemas(RerankBody, Ranks, ErrorBody))
)]
struct Api;

/// Vectors of texts, token ids, or objects with images and videos.
#[utoipa::path(
    post, path = "/embed", tag = "tei", request_body = EmbedBody,
    responses(
        (status = 200, body = Vec<EncodedVector>, description = "one vector per input"),
    ),
)]
async fn embed(State(app): State<Arc<App>>, JsonBody(body): JsonBody<EmbedBody>) -> Response {
    respond(&app, vectors(&app, body).await, error::failure)
}

async fn vectors(app: &App, body: EmbedBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let encoding = body.encoding_format.unwrap_or_default();
    let answer = chosen.embed(convert::embed_request(&chosen, body).await?).await?;
    let (timings, vectors) = (answer.timings, answer.vectors);
    let make =
        move || -> Vec<_> { vectors.into_iter().map(|vector| encoding.encode(vector)).collect() };
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

/// What the models are made for: ranking if the body has texts to rank, otherwise vectors, or
/// classes if no model gives vectors.
#[utoipa::path(
    post, path = "/", tag = "tei", request_body = DefaultBody,
    responses((status = 200, body = DefaultAnswer, description = "as at the path it stands for")),
)]
async fn default(State(app): State<Arc<App>>, RawBody(body): RawBody) -> Response {
    let keys = read::<Keys>(&app, body.clone(), error::failure).await;
    let ranks = match keys {
        Ok(keys) if keys.set(&["inputs", "texts"]) => {
            let both = Failure::body("send either \"inputs\" or \"texts\", not both");
            return respond(&app, Err(both), error::failure);
        }
        Ok(keys) => keys.any(&["texts"]) && !keys.set(&["inputs"]),
        Err(response) => return response,
    };
    if ranks {
        return handle(app, body, error::failure, rerank).await;
    }
    let embeds = app.find(None, Want::Embed);
    if let Err(failure @ Failure::NotReady(_)) = embeds {
        app.metrics().refused(&failure);
        return error::failure(&failure);
    }
    if embeds.is_err() && app.find(None, Want::Classify).is_ok() {
        handle(app, body, error::failure, classes).await
    } else {
        handle(app, body, error::failure, vectors).await
    }
}

async fn rerank(app: &App, body: RerankBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Rerank)?;
    let limit = body.top_n;
    let raw = body.raw_scores.unwrap_or(false);
    let returned = body.return_text.unwrap_or(false);
    let texts = body.texts.iter().filter(|_| returned).map(convert::text_of);
    let texts: Vec<Option<String>> = texts.collect();
    let answer = chosen.rerank(convert::rerank_request(&chosen, body).await?).await?;
    let ranks = ranked(&answer, limit, raw).into_iter().map(|rank| Rank {
        index: rank.index,
        text: texts.get(rank.index).cloned().flatten(),
        score: rank.score,
    });
    Ok(with_method(Json(Ranks(ranks.collect())).into_response(), &answer))
}

/// Classes of texts or pairs of texts.
#[utoipa::path(
    post, path = "/predict", tag = "tei", request_body = PredictBody,
    responses((status = 200, body = Predictions, description = "the classes of each input")),
)]
async fn predict(State(app): State<Arc<App>>, JsonBody(body): JsonBody<PredictBody>) -> Response {
    respond(&app, classes(&app, body).await, error::failure)
}

async fn classes(app: &App, body: PredictBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Classify)?;
    let raw = body.raw_scores.unwrap_or(false);
    let form = body.scores.unwrap_or_default().into();
    let (request, several) = convert::predict_request(body, chosen.auto_truncate())?;
    let answer = chosen.predict(request).await?;
    let own = Classes::of(chosen.info(), form);
    let all = answer.logits.iter().map(|logits| {
        let classes = own.scored(logits).into_iter();
        classes.map(|scored| convert::prediction(scored, raw)).collect::<Vec<_>>()
    });
    let mut all: Vec<_> = all.collect();
    let body = match several {
        true => Predictions::Batch(all),
        false => Predictions::One(all.swap_remove(0)),
    };
    Ok(with_timings(Json(body).into_response(), &answer.timings))
}

/// The hidden state of every token, not normalised.
#[utoipa::path(
    post, path = "/embed_all", tag = "tei", request_body = EmbedAllBody,
    responses((status = 200, body = Vec<Vec<Vec<f32>>>, description = "one vector per token")),
)]
async fn embed_all(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<EmbedAllBody>,
) -> Response {
    respond(&app, hidden_states(&app, body).await, error::failure)
}

async fn hidden_states(app: &App, body: EmbedAllBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Tokens)?;
    let answer = chosen.tokens(convert::tokens_request(&chosen, body).await?).await?;
    let timings = answer.timings;
    Ok(with_timings(json_response(usize::MAX, move || answer.rows).await, &timings))
}

/// Word weights (SPLADE, bge-m3).
#[utoipa::path(
    post, path = "/embed_sparse", tag = "tei", request_body = EmbedAllBody,
    responses(
        (status = 200, body = Vec<Vec<SparseValue>>, description = "the words of each input"),
    ),
)]
async fn embed_sparse(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<EmbedAllBody>,
) -> Response {
    respond(&app, word_weights(&app, body).await, error::failure)
}

async fn word_weights(app: &App, body: EmbedAllBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Sparse)?;
    let answer = chosen.sparse(convert::tokens_request(&chosen, body).await?).await?;
    let timings = answer.timings;
    let value = |(index, value)| SparseValue { index, value };
    let make = move || -> Vec<Vec<SparseValue>> {
        let inputs = answer.weights.into_iter();
        inputs.map(|weights| weights.into_iter().map(value).collect()).collect()
    };
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

/// Similarities of one sentence to others: cosines, unless the checkpoint names another function.
#[utoipa::path(
    post, path = "/similarity", tag = "tei", request_body = SimilarityBody,
    responses((status = 200, body = Vec<f32>, description = "one similarity per sentence")),
)]
async fn similarity(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<SimilarityBody>,
) -> Response {
    respond(&app, similarities(&app, body).await, error::failure)
}

async fn similarities(app: &App, body: SimilarityBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let answer = chosen.embed(convert::similarity_request(body, chosen.auto_truncate())).await?;
    let values = convert::similarities(&answer.vectors, chosen.info().similarity);
    Ok(with_timings(Json(values).into_response(), &answer.timings))
}

/// The tokens of texts.
#[utoipa::path(
    post, path = "/tokenize", tag = "tei", request_body = TokenizeBody,
    responses((status = 200, body = Vec<Vec<TokenEntry>>, description = "the tokens of each text")),
)]
async fn tokenize(State(app): State<Arc<App>>, JsonBody(body): JsonBody<TokenizeBody>) -> Response {
    let special = body.add_special_tokens.unwrap_or(true);
    let (texts, prompt) = (convert::texts(body.inputs), convert::prompt(body.prompt_name));
    let tokens = async {
        let chosen = app.choose(body.model.as_deref(), Want::Tokenize)?;
        let all = chosen.tokenize(texts, special, prompt).await?;
        let entries = |tokens: Vec<_>| tokens.into_iter().map(convert::token).collect();
        let all: Vec<Vec<TokenEntry>> = all.into_iter().map(entries).collect();
        Ok(Json(all).into_response())
    };
    respond(&app, tokens.await, error::failure)
}

/// Decodes token ids to texts.
#[utoipa::path(
    post, path = "/decode", tag = "tei", request_body = DecodeBody,
    responses((status = 200, body = Vec<String>, description = "one text per list of ids")),
)]
async fn decode(State(app): State<Arc<App>>, JsonBody(body): JsonBody<DecodeBody>) -> Response {
    let skip = body.skip_special_tokens.unwrap_or(true);
    let texts = async {
        let chosen = app.choose(body.model.as_deref(), Want::Decode)?;
        Ok(Json(chosen.decode(convert::ids(body.ids), skip).await?).into_response())
    };
    respond(&app, texts.await, error::failure)
}

/// Several `/embed` bodies at once, as Vertex AI sends them.
#[utoipa::path(
    post, path = "/vertex", tag = "tei", request_body = VertexBody,
    responses((status = 200, body = VertexAnswer, description = "the vectors of each body")),
)]
async fn vertex(State(app): State<Arc<App>>, JsonBody(body): JsonBody<VertexBody>) -> Response {
    respond(&app, predictions(&app, body).await, error::failure)
}

async fn predictions(app: &App, body: VertexBody) -> Result<Response, Failure> {
    let model = body.instances.first().and_then(|instance| instance.model.clone());
    if body.instances.iter().any(|instance| instance.model != model) {
        let message = "the instances of a request go to one model: send a request for each model";
        return Err(Failure::body(message));
    }
    let chosen = app.choose(model.as_deref(), Want::Embed)?;
    let (mut requests, mut encodings) = (Vec::new(), Vec::new());
    for instance in body.instances {
        encodings.push(instance.encoding_format.unwrap_or_default());
        requests.push(convert::embed_request(&chosen, instance).await?);
    }
    let answer = chosen.embed_all(requests).await?;
    let instances = answer.vectors.into_iter().zip(encodings);
    let predictions = instances.map(|(vectors, encoding)| {
        vectors.into_iter().map(|vector| encoding.encode(vector)).collect::<Vec<_>>()
    });
    let body = Json(VertexAnswer { predictions: predictions.collect() }).into_response();
    Ok(with_timings(body, &answer.timings))
}

/// Properties of the default model.
#[utoipa::path(
    get, path = "/info", tag = "tei",
    responses((status = 200, body = InfoAnswer, description = "of the default model")),
)]
async fn info(State(app): State<Arc<App>>) -> Response {
    told(&app, None)
}

/// Properties of one of several models.
#[utoipa::path(
    get, path = "/info/{model}", tag = "tei",
    params(("model" = String, Path, description = "served name of a model")),
    responses((status = 200, body = InfoAnswer, description = "of this model")),
)]
async fn info_of(State(app): State<Arc<App>>, PathText(model): PathText) -> Response {
    told(&app, Some(&model))
}

fn told(app: &App, model: Option<&str>) -> Response {
    respond(app, convert::info(app, model).map(|info| Json(info).into_response()), error::failure)
}

/// Whether a forward pass works on every model.
#[utoipa::path(
    get, path = "/health", tag = "tei",
    responses((status = 200, description = "every model is healthy")),
)]
async fn health(State(app): State<Arc<App>>) -> Response {
    respond(&app, app.ready().await.map(IntoResponse::into_response), error::failure)
}
