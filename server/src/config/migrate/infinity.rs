//! Flags of infinity 0.0.77 (`infinity_emb v2`).
//!
//! Must not know: how they are translated.

use super::{
    Foreign, Here, NO_CODE, NO_PATH_PREFIX, NO_SERVED_NAME, ON_ANYHOW, Server, Variable, alias,
    instead, none, same, value,
};

pub(super) const SERVER: Server = Server {
    name: "infinity",
    command: "infinity_emb v2",
    defaults: "It listens on `0.0.0.0:7997`, Proxima on `127.0.0.1:8080` (its images on \
`0.0.0.0:8080`). Its paths have no `/v1`, Proxima accepts both. It uses a GPU if there is one, \
Proxima only with `--device auto`. Its flags may be given once per model, Proxima's apply to all \
models, except `--model ID@REVISION`.",
    flags: FLAGS,
    prefix: Some("INFINITY_"),
    signs: &[],
    variables: &[
        Variable { name: "INFINITY_MAX_CLIENT_BATCH_SIZE", here: Here::Alias("max-inputs") },
        Variable {
            name: "INFINITY_QUEUE_SIZE",
            here: Here::Instead("the queue is bounded in tokens: PROXIMA_MAX_QUEUE_TOKENS"),
        },
        Variable {
            name: "INFINITY_ANONYMOUS_USAGE_STATS",
            here: Here::Instead("no usage statistics are ever sent"),
        },
    ],
};

const FLAGS: &[Foreign] = &[
    alias(&["--model-id"], "model", "as a variable, separate several with commas, not semicolons"),
    none(&["--served-model-name"], NO_SERVED_NAME),
    instead(
        &["--batch-size"],
        "leave it out: batches are bounded by tokens (--max-batch-tokens) and by time (--batch-time-ms)",
    ),
    same(&["--revision"], "for one model only: `--model ID@REVISION`"),
    none(&["--trust-remote-code", "--no-trust-remote-code"], NO_CODE),
    instead(&["--engine"], "leave it out: there is one engine"),
    instead(
        &["--model-warmup", "--no-model-warmup"],
        "leave it out: /readyz succeeds once the model has passed a forward pass",
    ),
    instead(
        &["--vector-disk-cache", "--no-vector-disk-cache"],
        "vectors are cached in memory only: --cache-bytes 1GiB",
    ),
    same(&["--device"], "`mps` is `metal`; the default is `cpu`, not `auto`"),
    instead(&["--device-id"], "name them in --device: --device cuda:0,cuda:1"),
    instead(
        &["--lengths-via-tokenize", "--no-lengths-via-tokenize"],
        "leave it out: lengths are always counted in tokens",
    ),
    same(&["--dtype"], "omit it for `auto`; there is no `fp8`"),
    instead(
        &["--embedding-dtype"],
        "set it per request: \"encoding_format\" is int8, uint8, binary or ubinary",
    ),
    alias(&["--pooling-method"], "pooling", "omit it for `auto`"),
    none(
        &["--compile", "--no-compile", "--bettertransformer", "--no-bettertransformer"],
        ON_ANYHOW,
    ),
    instead(&["--preload-only", "--no-preload-only"], "run `proxima pull ID`"),
    same(&["--host", "--port"], ""),
    none(&["--url-prefix", "--proxy-root-path"], NO_PATH_PREFIX),
    instead(
        &["--redirect-slash"],
        "leave it out: nothing is redirected; the API documentation is at /docs",
    ),
    same(&["--log-level"], "`warning` is `warn`, `critical` is `error`"),
    value(&["--permissive-cors"], "cors-allow-origin", "*"),
    instead(
        &["--no-permissive-cors"],
        "leave it out: by default no web page of another origin may call the server",
    ),
    same(&["--api-key"], "separate several keys with commas"),
    instead(
        &[
            "--onnx-disable-optimize",
            "--no-onnx-disable-optimize",
            "--onnx-do-not-prefer-quantized",
            "--no-onnx-do-not-prefer-quantized",
        ],
        "leave it out: weights are read from safetensors, not ONNX files",
    ),
];
