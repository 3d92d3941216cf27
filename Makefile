# Proxima. `make help` lists what can be made.

MODEL ?= all-MiniLM-L6-v2
HOST ?= 127.0.0.1
PORT ?= 8080
PYTHON ?= python3
CACHE := $(or $(PROXIMA_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/proxima)
TARGET := $(or $(CARGO_TARGET_DIR),$(shell cargo metadata --format-version 1 --no-deps --offline 2>/dev/null | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'),target)
PROXIMA := $(TARGET)/release/proxima
PACKAGES := $(CACHE)/venv-packages-$(shell cksum tests/packages/requirements.txt | cut -d' ' -f1)
# Told by `proxima --version`; a build without git has none.
export PROXIMA_BUILD_COMMIT := $(or $(PROXIMA_BUILD_COMMIT),$(shell git rev-parse --short=12 HEAD 2>/dev/null))
CLIENTS := $(CACHE)/venv-clients-$(shell cksum tests/clients/requirements.txt | cut -d' ' -f1)

# candle's own kernels: PTX of the oldest generation, which later ones compile when they first load it.
CUDA_VERSIONS := CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
CUDA_TOOLKIT := $(CACHE)/cuda-13.0.2
CUDA_BUILD := CUDA_HOME='$(CUDA_TOOLKIT)/shims' NVCC='$(CURDIR)/scripts/cuda/nvcc' $(CUDA_VERSIONS)

.PHONY: help serve build build-cuda cuda-environment cuda-toolkit cuda-kernels lint-cuda lint-metal test test-rust test-isa test-neon test-clients fuzz-http test-candle test-long verify-mpnet assets lint docs openapi protos deny golden bench bench-peers bench-rerank bench-vision demo-images soak dist test-packages

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

serve: build ## Build and serve MODEL (the demo model, an id of the Hub, or a folder)
	@set -e; model='$(MODEL)'; \
	if [ "$$model" = all-MiniLM-L6-v2 ]; then model=$$($(PYTHON) scripts/fetch.py all-MiniLM-L6-v2); fi; \
	echo; echo "Try it, when it is ready:"; \
	echo "  curl http://$(HOST):$(PORT)/embed -H 'content-type: application/json' -d '{\"inputs\": [\"What is the capital of China?\"]}'"; \
	echo "  curl http://$(HOST):$(PORT)/v1/embeddings -H 'content-type: application/json' -d '{\"input\": \"Explain gravity\"}'"; \
	echo; exec $(PROXIMA) serve --model "$$model" --host $(HOST) --port $(PORT)

build: ## Build the server
	@command -v cargo >/dev/null || { echo "cargo is needed: see https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { echo "a C compiler is needed: install gcc or clang"; exit 1; }
	cargo build --release --locked --package proxima

build-cuda: ## Build the server for NVIDIA GPUs too; it starts without one (downloads NVIDIA's compiler, 1.3 GB)
	scripts/cuda/toolkit.sh '$(CUDA_TOOLKIT)'
	scripts/cuda/shims.py '$(CUDA_TOOLKIT)/cuda' '$(CUDA_TOOLKIT)/shims'
	$(CUDA_BUILD) cargo build --release --package proxima --features cuda --config kernels/gpu.toml

# What other builds with the feature need to be told, to be of the same parts.
cuda-environment:
	@echo "$(CUDA_BUILD)"

cuda-toolkit:
	scripts/cuda/toolkit.sh '$(CUDA_TOOLKIT)' compiler

cuda-kernels: cuda-toolkit ## Compile the CUDA kernels and list the registers and memory of each
	CUDA_HOME='$(CUDA_TOOLKIT)/cuda' scripts/cuda/resources.sh 90

# Types only: what stands for nvcc compiles nothing, so its results have a folder of their own.
lint-cuda:
	CARGO_TARGET_DIR='$(TARGET)/types' NVCC='$(CURDIR)/scripts/cuda/nvcc' NVCC_MODE=stub $(CUDA_VERSIONS) \
		cargo clippy --release --package proxima-kernels --features cuda --lib -- -D warnings

lint-metal:
	CARGO_TARGET_DIR='$(TARGET)/types' scripts/metal/check.sh '$(TARGET)/metal-check'

assets: ## Fetch what the tests need: the demo model, a small SPLADE, the Qwen3 tokenizer
	@$(PYTHON) scripts/fetch.py all-MiniLM-L6-v2
	@$(PYTHON) scripts/fetch.py splade-bert-tiny
	@$(PYTHON) scripts/fetch.py qwen3-tokenizer

test: assets test-rust test-isa test-clients test-packages ## Run all tests, fetching what they need

test-rust:
	@command -v ffmpeg >/dev/null || { echo "ffmpeg is needed by the tests of videos: install the package ffmpeg"; exit 1; }
	PROXIMA_CACHE='$(CACHE)' cargo test --release --workspace

# The kernels choose the best instruction set by themselves; here each other one is forced.
test-isa:
	PROXIMA_CACHE='$(CACHE)' PROXIMA_ISA=portable cargo test --release --workspace --test golden -- tiny_bert tiny_qwen3_in
	if grep -qw avx512f /proc/cpuinfo 2>/dev/null; then PROXIMA_CACHE='$(CACHE)' PROXIMA_ISA=avx512 cargo test --release --workspace --test golden; fi
	if grep -qw avx2 /proc/cpuinfo 2>/dev/null; then PROXIMA_CACHE='$(CACHE)' PROXIMA_ISA=avx2 cargo test --release --workspace --test golden; fi
	if grep -qw avx_vnni /proc/cpuinfo 2>/dev/null; then PROXIMA_CACHE='$(CACHE)' PROXIMA_ISA=avx2_vnni cargo test --release --workspace --test golden -- tiny_bert minilm; fi

# 64-bit Arm in an emulator of a CPU that has everything. Needs the packages qemu-user and
# gcc-aarch64-linux-gnu (g++, too), and the target: `rustup target add aarch64-unknown-linux-gnu`.
NEON := aarch64-unknown-linux-gnu
test-neon: ## Test the CPU kernels for 64-bit Arm in an emulator
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max' \
	CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++ \
	RUSTFLAGS='-D warnings' cargo test --release --target $(NEON) --package proxima-kernels \
		--test products --test ops --test attention

$(CLIENTS)/.complete: tests/clients/requirements.txt
	rm -rf '$(CLIENTS)'
	$(PYTHON) -m venv '$(CLIENTS)'
	'$(CLIENTS)/bin/pip' install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	touch '$@'

test-clients: build assets $(CLIENTS)/.complete
	'$(CLIENTS)/bin/python' tests/clients/run.py --proxima $(PROXIMA) --model '$(CACHE)/models/all-MiniLM-L6-v2'

# Tools that these tests can do without are skipped by name: the end of the output lists them.
$(PACKAGES)/.complete: tests/packages/requirements.txt
	rm -rf '$(PACKAGES)'
	$(PYTHON) -m venv '$(PACKAGES)'
	'$(PACKAGES)/bin/pip' install --quiet --disable-pip-version-check -r tests/packages/requirements.txt
	touch '$@'

test-packages: build assets $(PACKAGES)/.complete ## Test packages, image and compose file as far as the tools are installed
	'$(PACKAGES)/bin/python' -m pytest -q -rs -p no:cacheprovider tests/packages \
		--proxima $(PROXIMA) --model '$(CACHE)/models/all-MiniLM-L6-v2'

dist: build ## Make a wheel, a Debian package and an archive of the build, with checksums (needs Python 3.11)
	$(PYTHON) scripts/dist/make.py --binary $(PROXIMA) --out '$(TARGET)/dist'

fuzz-http: build assets $(CLIENTS)/.complete ## Compare responses with the OpenAPI document for many generated requests (FUZZ=200 each)
	FUZZ_REQUESTS=$(or $(FUZZ),200) '$(CLIENTS)/bin/python' tests/clients/run.py --proxima $(PROXIMA) \
		--model '$(CACHE)/models/all-MiniLM-L6-v2' --tests test_fuzz.py

verify-mpnet: build ## Fetch all-mpnet-base-v2 (405 MB) and check it against its published answers
	@set -e; model=$$($(PYTHON) scripts/fetch.py all-mpnet-base-v2); $(PROXIMA) verify --model "$$model"

test-candle: ## Compare small networks with candle-transformers, a second opinion without Python
	cargo test --release --locked --manifest-path tests/candle/Cargo.toml --target-dir '$(TARGET)/candle'

test-long: fuzz-http soak verify-mpnet test-candle deny ## Run what `make test` leaves out because it takes long: many generated requests, a minute of load, a larger model, a second opinion

bench-vision: build assets ## Measure images per second on a synthetic Qwen3-VL-Embedding-2B (needs Pillow, numpy; BENCH='--peer PYTHON')
	$(PYTHON) benches/vision.py --proxima $(PROXIMA) --cache '$(CACHE)' $(BENCH)

demo-images: build ## Rank pictures for texts (IMAGES=folder, QUERY='a text', VISION_MODEL=folder or id)
	@set -e; model='$(VISION_MODEL)'; \
	if [ -z "$$model" ]; then \
		model='$(CACHE)/models/synthetic-tiny-qwen3-vl'; \
		[ -e "$$model/config.json" ] || { rm -rf "$$model"; $(PROXIMA) synth tiny-qwen3-vl --out "$$model"; }; \
		echo "A random checkpoint: it shows that all works, its order means nothing."; \
	fi; \
	$(PYTHON) examples/images/rank.py --proxima $(PROXIMA) --model "$$model" $(if $(IMAGES),--pictures '$(IMAGES)') $(if $(QUERY),'$(QUERY)')

lint: ## Check format, lints and documentation
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps

deny: ## Check licences and sources of dependencies with cargo-deny, which is installed if need be
	command -v cargo-deny >/dev/null || cargo install --locked --version 0.20.2 cargo-deny
	cargo deny check licenses bans sources

openapi: build ## Rewrite openapi/openapi.json
	$(PROXIMA) openapi > openapi/openapi.json

protos: ## Rewrite the code generated from openapi/*.proto
	PROXIMA_WRITE_PROTOS=1 cargo test --release --package proxima --test protos

docs: build ## Rewrite docs/proxima.example.toml and docs/migrate.md
	$(PROXIMA) docs settings > docs/proxima.example.toml
	$(PROXIMA) docs migrate > docs/migrate.md

golden: build assets ## Rewrite tests/golden with transformers (needs tests/reference/requirements.txt)
	PROXIMA_CACHE='$(CACHE)' $(PYTHON) tests/reference/make_golden.py --proxima $(PROXIMA)
	PROXIMA_CACHE='$(CACHE)' $(PYTHON) tests/reference/make_rerank.py --proxima $(PROXIMA)
	PROXIMA_CACHE='$(CACHE)' $(PYTHON) tests/reference/make_vision.py --proxima $(PROXIMA) --keep-pictures
	PROXIMA_CACHE='$(CACHE)' $(PYTHON) tests/reference/make_lists.py --proxima $(PROXIMA)
	$(PYTHON) tests/reference/make_scores.py
	$(PYTHON) tests/reference/make_sparse.py
	$(PYTHON) tests/reference/make_tokenizers.py
	$(PYTHON) tests/reference/make_templates.py
	$(PYTHON) tests/reference/make_chains.py --proxima $(PROXIMA)
	$(PYTHON) tests/reference/make_families.py

bench: build assets ## Measure the demo model and a synthetic Qwen3-Embedding-0.6B over HTTP
	cargo build --release --workspace --examples
	$(PYTHON) benches/run.py --proxima $(PROXIMA) --cache '$(CACHE)' $(BENCH)

bench-peers: build assets ## Compare Proxima with other engines (installs them into the cache; BENCH=--gemm for matrix products)
	$(PYTHON) benches/peers.py --proxima $(PROXIMA) --cache '$(CACHE)' $(BENCH)

bench-rerank: build assets ## Measure reranking with and without shared prefixes and document vectors
	$(PYTHON) benches/rerank.py --proxima $(PROXIMA) --cache '$(CACHE)'

soak: build assets ## Load the demo model with 64 clients for a minute, then stop it under load
	cargo build --release --workspace --examples
	$(PYTHON) benches/soak.py --proxima $(PROXIMA) --model '$(CACHE)/models/all-MiniLM-L6-v2'
