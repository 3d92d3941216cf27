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
    defaults: "The model is named first, as in `proxima serve ID`. It listens on all addresses at \
port 8000, Proxima on `127.0.0.1:8080`. It refuses inputs that are too long, Proxima truncates \
them unless `--auto-truncate false` is given. It uses a GPU, Proxima the CPU unless `--device` \
says otherwise. Any web page may call it, but only pages of its own origin may call Proxima \
without a key. It fetches images from any host, Proxima only from those given with \
`--media-allow`.",
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
    instead(&["--convert"], "set what the model is for: --task"),
    instead(
        &["--pooler-config", "--override-pooler-config"],
        "--pooling names the method; requests set \"normalize\" and \"dimensions\"",
    ),
    same(&["--dtype"], "omit it for `auto`; `half` is `float16`, `float` is `float32`"),
    alias(&["--max-model-len"], "max-length", "a plain number"),
    same(&["--revision"], ""),
    instead(
        &["--code-revision", "--tokenizer-revision", "--hf-config-path", "--config-format"],
        "leave it out: all files of a model are of one --revision, and no code is run",
    ),
    instead(
        &["--tokenizer", "--tokenizer-mode"],
        "the tokenizer is the checkpoint's; to use another, make a folder with its tokenizer.json",
    ),
    instead(
        &["--skip-tokenizer-init"],
        "leave it out; --token-ids allow accepts token ids everywhere, as ids of the model's \
         tokenizer",
    ),
    none(&["--trust-remote-code", "--no-trust-remote-code"], NO_CODE),
    instead(
        &["--hf-overrides"],
        "a checkpoint is served as its files define it: edit config.json in a local folder. \
         Qwen3-Reranker needs no overrides",
    ),
    instead(
        &["--rope-scaling", "--rope-theta", "--disable-sliding-window"],
        "a checkpoint is served as its files define it: edit config.json in a local folder",
    ),
    instead(
        &["--chat-template", "--chat-template-content-format", "--default-chat-template-kwargs"],
        "leave it out: Proxima knows the prompts of the models that it serves, Qwen3-Reranker's too",
    ),
    instead(
        &["--trust-request-chat-template", "--enable-prompt-embeds"],
        "leave it out: requests contain texts, images, videos or token ids",
    ),
    instead(
        &["--quantization", "-q"],
        "--dtype int8 quantises weights to 8 bits at load; quantised checkpoints are refused",
    ),
    instead(
        &["--load-format", "--ignore-patterns", "--model-loader-extra-config", "--model-impl"],
        "leave it out: safetensors are read, by Proxima's own code",
    ),
    instead(&["--download-dir"], "set the variable HF_HUB_CACHE"),
    instead(
        &["--hf-token"],
        "set the variable HF_TOKEN; command lines are visible in process lists",
    ),
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
        "a model is not split; with --device cuda:all every GPU computes batches of its own",
    ),
    instead(&["--data-parallel-size", "-dp"], "name the GPUs: --device cuda:0,cuda:1, or cuda:all"),
    instead(
        &["--api-server-count", "--distributed-executor-backend"],
        "leave it out: there is one process, with as many threads as it needs",
    ),
    same(&["--device"], ""),
    alias(&["--max-num-batched-tokens"], "max-batch-tokens", "if absent, it depends on the device"),
    instead(
        &["--max-num-seqs"],
        "leave it out: batches are bounded by tokens (--max-batch-tokens) and by time (--batch-time-ms)",
    ),
    instead(
        &["--enable-chunked-prefill", "--no-enable-chunked-prefill", "--scheduling-policy"],
        "leave it out: clients take turns, and the time of a batch is limited (--batch-time-ms)",
    ),
    instead(
        &["--enable-prefix-caching"],
        "leave it out: it is on for models that support it; --prefix-bytes sets its size",
    ),
    value(&["--no-enable-prefix-caching"], "prefix-bytes", "0"),
    instead(
        &["--block-size", "--kv-cache-dtype", "--kv-cache-memory-bytes", "--swap-space"],
        "leave it out: only keys and values of shared prefixes are cached (--prefix-bytes)",
    ),
    instead(
        &["--cpu-offload-gb"],
        "leave it out: a model must fit on its device; --dtype int8 makes it smaller",
    ),
    instead(
        &["--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank"],
        "adapters are not supported: merge the adapter into its base model",
    ),
    alias(&["--allowed-media-domains"], "media-allow", "repeat it, or separate with commas"),
    instead(&["--allowed-local-media-path"], "requests never read files of the server"),
    instead(
        &["--limit-mm-per-prompt"],
        "leave it out: --max-body-bytes, --max-media-bytes and --max-image-pixels bound media",
    ),
    instead(
        &["--mm-processor-kwargs", "--media-io-kwargs"],
        "--max-image-pixels bounds images; requests set \"fps\" and \"max_frames\"",
    ),
    instead(&["--mm-processor-cache-gb"], "--media-cache-bytes, as in --media-cache-bytes 4GiB"),
    same(&["--host", "--port"], ""),
    instead(&["--uds"], "there are no Unix sockets: --host 127.0.0.1 keeps other machines out"),
    same(&["--api-key"], "for all paths except health, metrics and documentation, not only `/v1`"),
    instead(
        &["--allowed-origins"],
        "name each origin: --cors-allow-origin https://app.example.com, or '*'",
    ),
    instead(
        &["--allowed-methods", "--allowed-headers", "--allow-credentials"],
        "leave it out: pages of --cors-allow-origin may send all that the paths here accept",
    ),
    instead(
        &["--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs"],
        "there is no TLS: use a reverse proxy, and name it with --trusted-proxy",
    ),
    none(&["--root-path"], NO_PATH_PREFIX),
    instead(&["--middleware"], "use a reverse proxy"),
    instead(&["--disable-fastapi-docs"], "leave it out: /docs and /openapi.json stay open"),
    alias(&["--uvicorn-log-level"], "log-level", "`warning` is `warn`, `critical` is `error`"),
    instead(&["--disable-log-stats"], "leave it out: --log-level sets how much is logged"),
    instead(&["--disable-uvicorn-access-log"], "use --log-requests off"),
    instead(
        &["--enable-log-requests", "--no-enable-log-requests", "--disable-log-requests"],
        "leave it out: --log-requests logs one line per request, and texts are never logged",
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
