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
`0.0.0.0:8080`). Its paths have no `/v1`, Proxima takes both. It computes on a GPU if there is \
one, Proxima if `--device auto` says so. Its flags may be given once for each model, Proxima's \
count for all, but for `--model ID@REVISION`.",
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
            here: Here::Instead("nothing is ever sent about usage"),
        },
    ],
};

const FLAGS: &[Foreign] = &[
    alias(&["--model-id"], "model", "as a variable, commas separate several, not semicolons"),
    none(&["--served-model-name"], NO_SERVED_NAME),
    instead(
        &["--batch-size"],
        "leave it out: batches are bounded by tokens (--max-batch-tokens) and by time (--batch-time-ms)",
    ),
    same(&["--revision"], "of one model alone: `--model ID@REVISION`"),
    none(&["--trust-remote-code", "--no-trust-remote-code"], NO_CODE),
    instead(&["--engine"], "leave it out: there is one engine"),
    instead(
        &["--model-warmup", "--no-model-warmup"],
        "leave it out: /readyz is green when the model has computed something",
    ),
    instead(
        &["--vector-disk-cache", "--no-vector-disk-cache"],
        "vectors are kept in memory alone: --cache-bytes 1GiB",
    ),
    same(&["--device"], "`mps` is `metal`; the default is `cpu`, not `auto`"),
    instead(&["--device-id"], "name them with the device: --device cuda:0,cuda:1"),
    instead(
        &["--lengths-via-tokenize", "--no-lengths-via-tokenize"],
        "leave it out: lengths are always counted in tokens",
    ),
    same(&["--dtype"], "for `auto` leave it out; there is no `fp8`"),
    instead(
        &["--embedding-dtype"],
        "requests say it: \"encoding_format\" is int8, uint8, binary or ubinary",
    ),
    alias(&["--pooling-method"], "pooling", "for `auto` leave it out"),
    none(
        &["--compile", "--no-compile", "--bettertransformer", "--no-bettertransformer"],
        ON_ANYHOW,
    ),
    instead(&["--preload-only", "--no-preload-only"], "run `proxima pull ID`"),
    same(&["--host", "--port"], ""),
    none(&["--url-prefix", "--proxy-root-path"], NO_PATH_PREFIX),
    instead(&["--redirect-slash"], "leave it out: nothing is redirected; documents are at /docs"),
    same(&["--log-level"], "`warning` is `warn`, `critical` is `error`"),
    value(&["--permissive-cors"], "cors-allow-origin", "*"),
    instead(&["--no-permissive-cors"], "leave it out: no other page may call by default"),
    same(&["--api-key"], "a comma separates several keys"),
    instead(
        &[
            "--onnx-disable-optimize",
            "--no-onnx-disable-optimize",
            "--onnx-do-not-prefer-quantized",
            "--no-onnx-do-not-prefer-quantized",
        ],
        "leave it out: files of ONNX are not read, safetensors are",
    ),
];
