//! Flags of `vllm serve` that are used with embedders and rerankers.
//!
//! Must not know: how they are translated.

use super::{
    Foreign, Here, NO_CODE, NO_PATH_PREFIX, NO_SERVED_NAME, NO_TRACES, ON_ANYHOW, Server, Variable,
    alias, instead, none, same, value,
};

pub(super) const SERVER: Server = Server {
    name: "vLLM",
    command: "vllm serve",
    defaults: "The model is not named without a flag: `--model ID`. It listens on all addresses \
at port 8000, Proxima on `127.0.0.1:8080`. It refuses inputs that are too long, Proxima cuts them \
unless `--auto-truncate false` says otherwise. It takes a GPU, Proxima the processor unless \
`--device` says otherwise. Any page may call it, only its own may call Proxima without a key. It \
fetches images from any address, Proxima from hosts of `--media-allow`.",
    flags: FLAGS,
    prefix: None,
    signs: &[],
    variables: &[
        Variable { name: "VLLM_API_KEY", here: Here::Alias("api-key") },
        Variable { name: "VLLM_LOGGING_LEVEL", here: Here::Alias("log-level") },
        Variable { name: "VLLM_IMAGE_FETCH_TIMEOUT", here: Here::Alias("media-timeout") },
        Variable {
            name: "VLLM_USE_MODELSCOPE",
            here: Here::Instead(
                "models come from the Hugging Face Hub, or the mirror in HF_ENDPOINT",
            ),
        },
    ],
};

const FLAGS: &[Foreign] = &[
    same(&["--model"], ""),
    none(&["--served-model-name"], NO_SERVED_NAME),
    same(&["--config"], "a TOML file: see `proxima.example.toml`"),
    same(
        &["--task"],
        "`embed` and `classify`; `embedding` is `embed`, `score` is `rerank` or `classify`",
    ),
    instead(&["--runner"], "leave it out: nothing generates text"),
    instead(&["--convert"], "say what the model is for: --task"),
    instead(
        &["--pooler-config", "--override-pooler-config"],
        "--pooling names the method; requests say \"normalize\" and \"dimensions\"",
    ),
    same(&["--dtype"], "for `auto` leave it out; `half` is `float16`, `float` is `float32`"),
    alias(&["--max-model-len"], "max-length", "a plain number"),
    same(&["--revision"], ""),
    instead(
        &["--code-revision", "--tokenizer-revision", "--hf-config-path", "--config-format"],
        "leave it out: all of a model is of one --revision, and no code is run",
    ),
    instead(
        &["--tokenizer", "--tokenizer-mode"],
        "the tokenizer is the checkpoint's; make a folder with another tokenizer.json if it must be",
    ),
    instead(
        &["--skip-tokenizer-init"],
        "leave it out; --token-ids allow takes token ids everywhere, as ids of the model's tokenizer",
    ),
    none(&["--trust-remote-code", "--no-trust-remote-code"], NO_CODE),
    instead(
        &["--hf-overrides"],
        "a checkpoint is served as its files are: edit config.json in a folder. Qwen3-Reranker needs none",
    ),
    instead(
        &["--rope-scaling", "--rope-theta", "--disable-sliding-window"],
        "a checkpoint is served as its files are: edit config.json in a folder",
    ),
    instead(
        &["--chat-template", "--chat-template-content-format", "--default-chat-template-kwargs"],
        "leave it out: Proxima knows the prompts of the models that it serves, Qwen3-Reranker's too",
    ),
    instead(
        &["--trust-request-chat-template", "--enable-prompt-embeds"],
        "there is no such thing: requests bring texts, images, videos or token ids",
    ),
    instead(
        &["--quantization", "-q"],
        "--dtype int8 makes 8-bit weights at load; quantised checkpoints are refused",
    ),
    instead(
        &["--load-format", "--ignore-patterns", "--model-loader-extra-config", "--model-impl"],
        "leave it out: safetensors are read, by Proxima's own code",
    ),
    instead(&["--download-dir"], "set the variable HF_HUB_CACHE"),
    instead(&["--hf-token"], "set the variable HF_TOKEN; command lines show in lists of processes"),
    none(
        &["--enforce-eager", "--no-enforce-eager", "--compilation-config", "--optimization-level"],
        ON_ANYHOW,
    ),
    instead(&["--seed"], "leave it out: nothing is random"),
    alias(
        &["--gpu-memory-utilization"],
        "gpu-memory-fraction",
        "for all models of the process; without it there is no limit",
    ),
    instead(
        &["--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp"],
        "a model is not divided; --device cuda:all has every GPU compute batches of its own",
    ),
    instead(&["--data-parallel-size", "-dp"], "name the GPUs: --device cuda:0,cuda:1, or cuda:all"),
    instead(
        &["--api-server-count", "--distributed-executor-backend"],
        "leave it out: there is one process, with as many threads as are needed",
    ),
    same(&["--device"], ""),
    alias(&["--max-num-batched-tokens"], "max-batch-tokens", "chosen by the device without it"),
    instead(
        &["--max-num-seqs"],
        "leave it out: batches are bounded by tokens (--max-batch-tokens) and by time (--batch-time-ms)",
    ),
    instead(
        &["--enable-chunked-prefill", "--no-enable-chunked-prefill", "--scheduling-policy"],
        "leave it out: clients take turns, and a batch has its time (--batch-time-ms)",
    ),
    instead(
        &["--enable-prefix-caching"],
        "leave it out: it is on for models that can; --prefix-bytes sets its size",
    ),
    value(&["--no-enable-prefix-caching"], "prefix-bytes", "0"),
    instead(
        &["--block-size", "--kv-cache-dtype", "--kv-cache-memory-bytes", "--swap-space"],
        "leave it out: keys and values are kept of shared prefixes alone (--prefix-bytes)",
    ),
    instead(
        &["--cpu-offload-gb"],
        "leave it out: a model must fit its device; --dtype int8 is smaller",
    ),
    instead(
        &["--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank"],
        "adapters are not supported: merge the adapter into its model",
    ),
    alias(&["--allowed-media-domains"], "media-allow", "repeat it, or separate by commas"),
    instead(&["--allowed-local-media-path"], "files of the server are never read for requests"),
    instead(
        &["--limit-mm-per-prompt"],
        "leave it out: --max-body-bytes, --max-media-bytes and --max-image-pixels bound media",
    ),
    instead(
        &["--mm-processor-kwargs", "--media-io-kwargs"],
        "--max-image-pixels bounds images; requests say \"fps\" and \"max_frames\"",
    ),
    instead(&["--mm-processor-cache-gb"], "--media-cache-bytes, as in --media-cache-bytes 4GiB"),
    same(&["--host", "--port"], ""),
    instead(&["--uds"], "there are no Unix sockets: --host 127.0.0.1 keeps others out"),
    same(&["--api-key"], "for all paths but health, metrics and documents, not for `/v1` alone"),
    instead(
        &["--allowed-origins"],
        "name each origin: --cors-allow-origin https://app.example.com, or '*'",
    ),
    instead(
        &["--allowed-methods", "--allowed-headers", "--allow-credentials"],
        "leave it out: pages of --cors-allow-origin may send what the paths here take",
    ),
    instead(
        &["--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs"],
        "there is no TLS: put a proxy in front, and name it with --trusted-proxy",
    ),
    none(&["--root-path"], NO_PATH_PREFIX),
    instead(&["--middleware"], "there is none: put a proxy in front"),
    instead(&["--disable-fastapi-docs"], "leave it out: /docs and /openapi.json stay open"),
    alias(&["--uvicorn-log-level"], "log-level", "`warning` is `warn`, `critical` is `error`"),
    instead(&["--disable-log-stats"], "leave it out: --log-level says how much is logged"),
    instead(&["--disable-uvicorn-access-log"], "write --log-requests off"),
    instead(
        &["--enable-log-requests", "--no-enable-log-requests", "--disable-log-requests"],
        "leave it out: --log-requests has a line a request, and texts are never logged",
    ),
    none(&["--otlp-traces-endpoint", "--collect-detailed-traces"], NO_TRACES),
    instead(
        &[
            "--generation-config",
            "--reasoning-parser",
            "--tool-call-parser",
            "--speculative-config",
        ],
        "leave it out: nothing generates text",
    ),
];
