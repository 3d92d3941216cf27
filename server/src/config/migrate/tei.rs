//! Flags of text-embeddings-inference 1.9 (`router/src/main.rs`).
//!
//! Must not know: how they are translated.

use super::{Foreign, NO_SERVED_NAME, NO_TRACES, Server, alias, instead, none, same, value};

pub(super) const SERVER: Server = Server {
    name: "text-embeddings-inference",
    command: "text-embeddings-router",
    defaults: "It listens on `0.0.0.0:3000` (its images on port 80), Proxima on `127.0.0.1:8080` \
(its images on `0.0.0.0:8080`). It accepts 32 inputs per request, Proxima 2,048; bodies of 2 MB, \
Proxima of 32 MiB. It uses float16 on GPUs, Proxima the precision of the checkpoint.",
    flags: FLAGS,
    prefix: Some(""),
    signs: &["MODEL_ID", "MAX_CLIENT_BATCH_SIZE", "MAX_BATCH_TOKENS", "TOKENIZATION_WORKERS"],
    variables: &[],
};

const FLAGS: &[Foreign] = &[
    alias(&["--model-id"], "model", "repeat it for several models"),
    same(&["--revision"], "for one model only: `--model ID@REVISION`"),
    alias(&["--tokenization-workers"], "tokenization-threads", ""),
    same(&["--dtype"], "also `int8`"),
    none(&["--served-model-name"], NO_SERVED_NAME),
    same(&["--pooling"], "`last-token` is also `last_token`"),
    same(&["--max-concurrent-requests"], ""),
    same(&["--max-batch-tokens"], "if absent, it depends on the device"),
    instead(
        &["--max-batch-requests"],
        "leave it out: batches are bounded by tokens (--max-batch-tokens) and by time (--batch-time-ms)",
    ),
    alias(&["--max-client-batch-size"], "max-inputs", ""),
    same(&["--auto-truncate"], ""),
    instead(
        &["--default-prompt-name"],
        "send \"prompt_name\" with each request; the checkpoint's default prompt applies otherwise",
    ),
    instead(
        &["--default-prompt"],
        "send \"instruction\", or \"prompt_name\", with each request; else the checkpoint's default prompt applies",
    ),
    instead(
        &["--dense-path"],
        "Dense modules are those of modules.json; to use another, change it in a local folder",
    ),
    instead(
        &["--hf-api-token", "--hf-token"],
        "set the variable HF_TOKEN; command lines are visible in process lists",
    ),
    alias(&["--hostname"], "host", ""),
    same(&["--port"], ""),
    alias(&["-p"], "port", ""),
    instead(&["--uds-path"], "leave it out: models run in the server's own process"),
    instead(&["--huggingface-hub-cache"], "set the variable HF_HUB_CACHE"),
    alias(&["--payload-limit"], "max-body-bytes", "also as `32MiB`"),
    same(&["--api-key"], "separate several keys with commas"),
    value(&["--json-output"], "log-format", "json"),
    instead(&["--disable-spans"], "leave it out: log lines have no spans, only the request id"),
    none(&["--otlp-endpoint", "--otlp-service-name"], NO_TRACES),
    instead(
        &["--prometheus-port"],
        "leave it out: /metrics is on --port, and includes the te_ names",
    ),
    same(&["--cors-allow-origin"], ""),
];
