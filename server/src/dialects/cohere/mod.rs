//! Cohere's API: `/v2/rerank`, `/v2/embed` and `/v1/embed`. Its v1 rerank API is served by `jina`.

mod types;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use proxima_engine::EmbedRequest;
use proxima_models::{Content, ImageHeader, Input, Item, MediaFile, Part, Prepare, TruncationSide};
use utoipa::OpenApi;

use super::dialect::{Dialect, Purpose, ResponseFuture, SharedRoute, handle, respond};
use super::inputs::sole_prompt;
use super::items::{Name, Source, checked, content, resolve};
use super::ranking::{Asked, echoes, ranked, request, with_method};
use super::status::{answer_id, shaped};
use crate::http::{App, Chosen, Failure, JsonBody, Routes, Want, json_response, with_timings};
use types::{
    ApiVersion, EmbedAnswer, EmbedBody, Embeddings, ErrorBody, ImageInfo, Meta, RerankBody,
    RerankResults, ResultEntry, SomeEmbeddings, Truncate, Units,
};

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "cohere",
        owns: |path| path.starts_with("/v2/") || path == "/v1/embed",
        routes: || Routes::new().post(&["/v2/embed"], embed).post(&["/v1/embed"], embed_1),
        shared: || {
            vec![SharedRoute {
                purpose: Purpose::Rerank,
                path: Some("/v2/rerank"),
                body: "CohereRerankBody",
                answers: &["CohereRerankResults"],
                claims: |_| true,
                answer: |app, body| -> ResponseFuture {
                    Box::pin(handle(app, body, failure, rerank))
                },
            }]
        },
        failure,
        error: "CohereErrorBody",
        openapi: Api::openapi,
    }
}

#[derive(OpenApi)]
#[openapi(paths(embed, embed_1), components(schemas(RerankBody, RerankResults, ErrorBody)))]
struct Api;

async fn rerank(app: &App, mut body: RerankBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Rerank)?;
    let additions = body.additions();
    let asked = Asked {
        query: body.query,
        documents: body.documents.into(),
        rank_fields: Vec::new(),
        truncate: body.truncate.unwrap_or(true),
        document_tokens_max: body.max_tokens_per_doc,
    };
    let returned = body.return_documents.unwrap_or(false);
    let documents = if returned { echoes(&asked.documents) } else { Vec::new() };
    let raw = body.raw_scores.unwrap_or(false);
    let answer = chosen.rerank(request(&chosen, asked, additions).await?).await?;
    let results = ranked(&answer, body.top_n, raw).into_iter().map(|rank| ResultEntry {
        index: rank.index,
        relevance_score: rank.score,
        document: documents.get(rank.index).cloned(),
    });
    let results = RerankResults {
        id: answer_id("rerank"),
        results: results.collect(),
        meta: Meta::of(Units { search_units: Some(1), ..Units::default() }),
        method: answer.method.name(),
    };
    Ok(with_method(Json(results).into_response(), &answer))
}

/// Vectors of texts, images or both, in one or several types, as in Cohere's v2 API.
#[utoipa::path(
    post, path = "/v2/embed", tag = "cohere", request_body = EmbedBody,
    responses((status = 200, body = EmbedAnswer, description = "one vector per input and type")),
)]
async fn embed(State(app): State<Arc<App>>, JsonBody(body): JsonBody<EmbedBody>) -> Response {
    respond(&app, vectors(&app, body, false).await, failure)
}

/// Vectors of texts, images or both, as in Cohere's v1 API: plain lists of numbers unless types are
/// requested.
#[utoipa::path(
    post, path = "/v1/embed", tag = "cohere", request_body = EmbedBody,
    responses((status = 200, body = EmbedAnswer, description = "one vector per input and type")),
)]
async fn embed_1(State(app): State<Arc<App>>, JsonBody(body): JsonBody<EmbedBody>) -> Response {
    let plain = body.embedding_types.is_none();
    respond(&app, vectors(&app, body, plain).await, failure)
}

/// The vectors of a body. If `plain`, float lists without a type name (v1).
async fn vectors(app: &App, mut body: EmbedBody, plain: bool) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let encodings = body.embedding_types.clone().unwrap_or_default();
    let encodings = if encodings.is_empty() { vec![Default::default()] } else { encodings };
    let dimensions = body.output_dimension;
    let normalize = body.normalize.unwrap_or(true);
    let (instruction, prompt_name) = (body.instruction.take(), body.prompt_name.take());
    let prepare = Prepare {
        prompt: sole_prompt(instruction, prompt_name, body.input_type.as_deref())?,
        truncate: body.truncate != Some(Truncate::None),
        side: match body.truncate {
            Some(Truncate::Start) => TruncationSide::Left,
            _ => TruncationSide::Right,
        },
        tokens_max: body.max_tokens,
        ..Prepare::default()
    };
    let (inputs, texts) = inputs(&chosen, body).await?;
    let images: Vec<_> = inputs.iter().flat_map(Input::parts).filter_map(image).collect();
    let (n_images, images) = (images.len(), headers(&images));
    let request = EmbedRequest { inputs, prepare, dimensions, normalize };
    let answer = chosen.embed(request).await?;
    let (timings, vectors) = (answer.timings, answer.vectors);
    let make = move || {
        let units = Units {
            images: (n_images > 0).then_some(n_images),
            input_tokens: Some(timings.n_tokens),
            ..Units::default()
        };
        EmbedAnswer {
            id: answer_id("embed"),
            embeddings: match plain {
                true => SomeEmbeddings::Floats(vectors),
                false => SomeEmbeddings::ByType(Embeddings::of(&vectors, &encodings)),
            },
            texts,
            images,
            meta: Meta::of(units),
            response_type: if plain { "embeddings_floats" } else { "embeddings_by_type" },
        }
    };
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

/// The inputs of a body, which has them in one of three fields, and its texts.
async fn inputs(
    chosen: &Chosen<'_>,
    body: EmbedBody,
) -> Result<(Vec<Input>, Vec<String>), Failure> {
    let given = [body.texts.is_some(), body.images.is_some(), body.inputs.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(Failure::body("send exactly one of texts, images and inputs"));
    }
    if let Some(texts) = body.texts {
        let inputs = texts.iter().cloned().map(Input::from).collect();
        return Ok((inputs, texts));
    }
    let images = body.images.unwrap_or_default().into_iter();
    let images = images.map(|uri| Ok(vec![Part::Image(Source::Written(uri))].into()));
    let mixed = body.inputs.unwrap_or_default().into_iter();
    let mixed = mixed.map(|input| checked(content(input.content.0)?.into()));
    let pending = (0..).map(Name::Input).zip(images.chain(mixed)).map(|(name, item)| {
        let item: Item<Source> = item.map_err(|problem| name.wrong(problem))?;
        Ok((name, item.into()))
    });
    let pending = pending.collect::<Result<Vec<(Name, Content<Source>)>, Failure>>()?;
    let contents = resolve(chosen.media(), pending).await?;
    let texts = contents.iter().filter_map(Content::text).map(|text| text.to_string()).collect();
    Ok((contents.into_iter().map(Input::Content).collect(), texts))
}

/// The file of a part that is an image.
fn image(part: &Part) -> Option<&MediaFile> {
    match part {
        Part::Image(file) => Some(file),
        _ => None,
    }
}

/// What the headers of these images say; `None` if there are no images, or if one of them has no
/// header that can be read.
fn headers(images: &[&MediaFile]) -> Option<Vec<ImageInfo>> {
    let headers = images.iter().map(|file| Some(ImageHeader::of(file.bytes())?.into()));
    (!images.is_empty()).then(|| headers.collect())?
}

fn failure(failure: &Failure) -> Response {
    shaped(failure, ErrorBody { message: failure.message() })
}

impl Meta {
    fn of(billed_units: Units) -> Self {
        Self { api_version: ApiVersion { version: "2" }, billed_units }
    }
}
