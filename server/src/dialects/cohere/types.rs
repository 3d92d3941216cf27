//! Bodies of Cohere's API, with Proxima's additions.

use proxima_models::ImageHeader;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dialects::items::{ItemContent, ItemObject, Object, Unique};
use crate::dialects::misspelt;
use crate::dialects::ranking::{Document, Documents, ranking_body};
use crate::encoding::{EncodedVector, OutputEncoding};

crate::dialects::object::objects! {
    RerankBody: &misspelt::RERANK,
    EmbedBody: &misspelt::COHERE,
    MixedInput: &misspelt::NONE,
}

crate::dialects::object::words! { Truncate }

ranking_body! {
    /// `POST /v2/rerank`
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(remote = "Self")]
    #[schema(as = CohereRerankBody)]
    pub struct RerankBody {
        /// The served name of a model; the default model if absent.
        pub model: Option<String>,
        /// The query.
        pub query: Document,
        /// The documents; a single object is one document.
        pub documents: Documents,
        /// Return only the best ones; all if absent.
        pub top_n: Option<usize>,
        /// Number of tokens of each document that are used.
        #[schema(minimum = 1)]
        pub max_tokens_per_doc: Option<usize>,
        /// Addition: return the documents.
        pub return_documents: Option<bool>,
        /// Addition: return logits instead of probabilities.
        pub raw_scores: Option<bool>,
        /// Addition: truncate documents that are too long (on if absent) or refuse them.
        pub truncate: Option<bool>,
    }
}

/// The response to a rerank request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereRerankResults)]
pub struct RerankResults {
    /// Id of this response.
    pub id: String,
    /// Best first; of equal ones the earlier first.
    pub results: Vec<ResultEntry>,
    /// Version and units.
    pub meta: Meta,
    /// Addition: how documents were ranked.
    pub method: &'static str,
}

/// A ranked document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereResult)]
pub struct ResultEntry {
    /// Its index in the request.
    pub index: usize,
    /// Its score.
    pub relevance_score: f32,
    /// The document, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ItemObject>)]
    pub document: Option<Object>,
}

/// Version and units.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereMeta)]
pub struct Meta {
    /// Which version answered.
    pub api_version: ApiVersion,
    /// Billed units.
    pub billed_units: Units,
}

/// A version.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereApiVersion)]
pub struct ApiVersion {
    /// `2`
    pub version: &'static str,
}

/// Billed units.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = CohereUnits)]
pub struct Units {
    /// 1 for a rerank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_units: Option<usize>,
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Tokens of all inputs, including those of images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<usize>,
}

/// `POST /v2/embed`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = CohereEmbedBody)]
pub struct EmbedBody {
    /// The served name of a model; the default model if absent.
    pub model: Option<String>,
    /// What texts are for; selects the checkpoint's prompt of this name, if it has one.
    pub input_type: Option<String>,
    /// Texts.
    #[schema(min_items = 1)]
    pub texts: Option<Vec<String>>,
    /// Images: data URIs, or URLs of allowed hosts.
    #[schema(min_items = 1)]
    pub images: Option<Vec<String>>,
    /// Inputs of several parts: texts and images.
    #[schema(min_items = 1)]
    pub inputs: Option<Vec<MixedInput>>,
    /// Number of tokens of each input that are used.
    #[schema(minimum = 1)]
    pub max_tokens: Option<usize>,
    /// Keep only the first components.
    #[serde(alias = "dimensions")]
    #[schema(minimum = 1)]
    pub output_dimension: Option<usize>,
    /// Types of the vectors; `float` if absent.
    pub embedding_types: Option<Vec<OutputEncoding>>,
    /// Which end of a long text is cut; `END` if absent.
    pub truncate: Option<Truncate>,
    /// Addition: a free-form instruction, put before each text in the model's own template.
    pub instruction: Option<String>,
    /// Addition: a prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: scale vectors to length one; on if absent.
    pub normalize: Option<bool>,
}

/// An input of several parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = CohereInput)]
pub struct MixedInput {
    /// The parts, in their order.
    #[schema(value_type = ItemContent)]
    pub content: Unique,
}

/// Which end of a long text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(as = CohereTruncate)]
#[serde(remote = "Self", rename_all = "UPPERCASE")]
pub enum Truncate {
    /// Neither: it is refused.
    None,
    /// The beginning.
    Start,
    /// The end.
    End,
}

/// Properties from the header of an image.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImageInfo {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `png`, `jpeg`, `gif`, `webp`, `bmp` or `tiff`
    pub format: &'static str,
    /// Bits per pixel.
    pub bit_depth: usize,
}

impl From<ImageHeader> for ImageInfo {
    fn from(header: ImageHeader) -> Self {
        let ImageHeader { format, width, height, bit_depth } = header;
        Self { width, height, format, bit_depth }
    }
}

/// The response to an embed request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereEmbedAnswer)]
pub struct EmbedAnswer {
    /// Id of this response.
    pub id: String,
    /// Vectors in each requested type.
    pub embeddings: SomeEmbeddings,
    /// The texts.
    pub texts: Vec<String>,
    /// The images, if images were sent: those of `images`, or those in `inputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<ImageInfo>>,
    /// Version and units.
    pub meta: Meta,
    /// `embeddings_by_type` or `embeddings_floats`
    pub response_type: &'static str,
}

/// Vectors, with or without the names of their types.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = CohereEmbeddings)]
pub enum SomeEmbeddings {
    /// By type.
    ByType(Embeddings),
    /// Numbers, as in the first API.
    Floats(Vec<Vec<f32>>),
}

/// Vectors by type; only requested types are present.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = CohereEmbeddingsByType)]
pub struct Embeddings {
    /// Numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float: Option<Vec<EncodedVector>>,
    /// Signed bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int8: Option<Vec<EncodedVector>>,
    /// Unsigned bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uint8: Option<Vec<EncodedVector>>,
    /// Sign bits as signed bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<Vec<EncodedVector>>,
    /// Sign bits as unsigned bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ubinary: Option<Vec<EncodedVector>>,
    /// Little-endian float32 in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<Vec<EncodedVector>>,
}

impl Embeddings {
    /// The vectors in these encodings.
    pub fn of(vectors: &[Vec<f32>], encodings: &[OutputEncoding]) -> Self {
        let mut this = Self::default();
        for encoding in encodings {
            let encoded = match encoding {
                OutputEncoding::Float => &mut this.float,
                OutputEncoding::Int8 => &mut this.int8,
                OutputEncoding::Uint8 => &mut this.uint8,
                OutputEncoding::Binary => &mut this.binary,
                OutputEncoding::Ubinary => &mut this.ubinary,
                OutputEncoding::Base64 => &mut this.base64,
            };
            *encoded = Some(vectors.iter().map(|vector| encoding.encode(vector.clone())).collect());
        }
        this
    }
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CohereErrorBody)]
pub struct ErrorBody {
    /// The message.
    pub message: String,
}
