//! Flags of text-embeddings-inference 1.9 (`router/src/main.rs`).
//!
//! Must not know: how they are translated.

use super::{Foreign, NO_SERVED_NAME, NO_TRACES, Server, alias, instead, none, same, value};

pub(super) const SERVER: Server = Server {
    name: "text-embeddings-inference",
    command: "text-embeddings-router",
    defaults: "It listens on `0.0.0.0:3000` (its images on port 80), Proxima on `127.0.0.1:8080` \
(its images on `0.0.0.0:8080`). It takes 32 inputs a request, Proxima 2,048; bodies of 2 MB, \
Proxima of 32 MiB. Its precision is float16 on GPUs, Proxima's the checkpoint's.",
    flags: FLAGS,
    prefix: Some(""),
    signs: &["MODEL_ID", "MAX_CLIENT_BATCH_SIZE", "MAX_BATCH_TOKENS", "TOKENIZATION_WORKERS"],
    variables: &[],
};

const FLAGS: &[Foreign] = &[
    alias(&["--model-id"], "model", "repeat it for several models"),
    same(&["--revision"], "of one model alone: `--model ID@REVISION`"),
    alias(&["--tokenization-workers"], "tokenization-threads", ""),
    same(&["--dtype"], "also `int8`"),
    none(&["--served-model-name"], NO_SERVED_NAME),
    same(&["--pooling"], "`last-token` is also `last_token`"),
    same(&["--max-concurrent-requests"], ""),
    same(&["--max-batch-tokens"], "chosen by the device without it"),
    instead(
        &["--max-batch-requests"],
        "leave it out: batches are bounded by tokens (--max-batch-tokens) and by time (--batch-time-ms)",
    ),
    alias(&["--max-client-batch-size"], "max-inputs", ""),
    same(&["--auto-truncate"], ""),
    instead(
        &["--default-prompt-name"],
        "send \"prompt_name\" with each request; none is added to those that name none",
    ),
    instead(
        &["--default-prompt"],
        "send \"instruction\", or \"prompt_name\", with each request; none is added by default",
    ),
    instead(
        &["--dense-path"],
        "Dense modules are those of modules.json; in a folder of your own, name another there",
    ),
    instead(
        &["--hf-api-token", "--hf-token"],
        "set the variable HF_TOKEN; command lines show in lists of processes",
    ),
    alias(&["--hostname"], "host", ""),
    same(&["--port"], ""),
    alias(&["-p"], "port", ""),
    instead(&["--uds-path"], "leave it out: models compute in the server's own process"),
    instead(&["--huggingface-hub-cache"], "set the variable HF_HUB_CACHE"),
    alias(&["--payload-limit"], "max-body-bytes", "also as `32MiB`"),
    same(&["--api-key"], "a comma separates several keys"),
    value(&["--json-output"], "log-format", "json"),
    instead(&["--disable-spans"], "leave it out: lines of the log have no spans"),
    none(&["--otlp-endpoint", "--otlp-service-name"], NO_TRACES),
    instead(
        &["--prometheus-port"],
        "leave it out: /metrics is on --port, with the names that begin with te_ besides others",
    ),
    same(&["--cors-allow-origin"], ""),
];
