//! A table of vectors, one per token; a text's is their mean (sentence-transformers
//! `StaticEmbedding`; model2vec saves the same). Embedders such as static-retrieval-mrl-en-v1 and
//! potion.
//!
//! Must not know: templates, pooling, devices.

use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::spec::Precision;
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{Device, KernelError};

use super::{Family, Network, heads};
use crate::batch::{Encoder, HiddenStates, RaggedBatch};
use crate::checkpoint::{Checkpoint, CheckpointError, STATIC};
use crate::conventions::Conventions;
use crate::layers::Loader;
use crate::readout::Pooling;

/// Its entry in the list of families.
pub fn family() -> Family {
    Family {
        model_type: STATIC,
        is: None,
        architectures: &[],
        keys: &[],
        conventions: Conventions::of("PreTrained"),
        files: &[],
        pooling: |_| Some(Pooling::Mean),
        load,
        score: heads::last_token_score,
        language_model: None,
        words: None,
    }
}

/// Longest text in tokens. The mean of any number can be taken; this bounds the memory of one text.
const POSITIONS: usize = 1 << 16;

/// Names of the table: of sentence-transformers and of model2vec.
const TABLES: [&str; 2] = ["embedding.weight", "embeddings"];

#[derive(Debug)]
struct StaticEmbedding {
    table: Embedding,
}

fn load(
    checkpoint: &Checkpoint,
    precision: Precision,
    device: &Device,
) -> Result<Network, CheckpointError> {
    let weights = checkpoint.weights();
    let error = |problem: &str| CheckpointError::new(checkpoint.transformer_dir(), problem);
    let name = TABLES.into_iter().find(|name| weights.contains(name));
    let name = name.ok_or_else(|| error("there is no tensor embedding.weight or embeddings"))?;
    if name == TABLES[1] && weights.contains("mapping") {
        return Err(error(
            "its tensor mapping makes tokens share vectors, which is not supported; save the model \
             without quantising its vocabulary",
        ));
    }
    let shape = weights.shape(name).filter(|shape| shape.len() == 2);
    let shape =
        shape.ok_or_else(|| error("its table is not a matrix of float32, float16 or bfloat16"))?;
    let (vocabulary, width) = (shape[0], shape[1]);
    let loader = Loader::new(weights, "", precision, device);
    let mut table = loader.stored(name, &[vocabulary, width])?;
    if name == TABLES[1] && weights.contains("weights") {
        let factors = loader.stored("weights", &[vocabulary])?.to_f32();
        let mut values = table.to_f32();
        for (row, factor) in values.chunks_exact_mut(width.max(1)).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        let folded = StoredTensor::of_values(&values, vec![vocabulary, width]);
        table = folded.map_err(|problem| error(&problem))?;
    }
    let table = Embedding::new(table, device).map_err(|error| loader.failed(error))?;
    Ok(Network {
        encoder: Box::new(StaticEmbedding { table }),
        width,
        positions: POSITIONS,
        rotary_positions: false,
        vocabulary,
        token_types: 0,
    })
}

impl Encoder for StaticEmbedding {
    fn run(&self, batch: &RaggedBatch, _pause: &dyn Fn()) -> Result<HiddenStates, KernelError> {
        HiddenStates::new(&self.table.rows_of(batch.tokens())?, batch)
    }

    fn is_causal(&self) -> bool {
        false
    }
}
