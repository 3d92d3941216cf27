//! Qwen3-VL: the configuration of decoder and vision tower, the files of its processors, and the
//! tensors of the tower.
//!
//! Must not know: how images are preprocessed.

use serde_json::{Value, json};

use super::{Published, bias, linear, norm};
use crate::Tensor;

/// Sizes of a vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vision {
    hidden: usize,
    depth: usize,
    heads: usize,
    mlp: usize,
    /// The layers whose features the decoder's first layers also receive (DeepStack).
    deepstack: [usize; 3],
    /// Rows of the position embedding table, which is a square grid.
    positions: usize,
}

const CHANNELS: usize = 3;
const PATCH: usize = 16;
/// Frames per patch.
const FRAMES: usize = 2;
/// Side, in patches, of the square that becomes one token.
const MERGE: usize = 2;

/// Messages as the model reads them: text, and for an image or video a pad token between start and
/// end tokens.
const CHAT_TEMPLATE: &str = "\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type in ['image', 'video'] -%}
{{- '<|vision_start|><|' + part.type + '_pad|><|vision_end|>' -}}
{%- else -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}";

impl Vision {
    /// The tower of the 2B models.
    pub const LARGE: Self = Self {
        hidden: 1024,
        depth: 24,
        heads: 16,
        mlp: 4096,
        deepstack: [5, 11, 17],
        positions: 48 * 48,
    };
    /// The tower of the 8B models.
    pub const SO400M: Self = Self {
        hidden: 1152,
        depth: 27,
        heads: 16,
        mlp: 4304,
        deepstack: [8, 16, 24],
        positions: 48 * 48,
    };
    /// For tests. Its DeepStack layers are unevenly spaced, and its position table is smaller than
    /// the patch grid of most images.
    pub const TINY: Self =
        Self { hidden: 64, depth: 4, heads: 4, mlp: 128, deepstack: [0, 1, 3], positions: 12 * 12 };

    fn config(&self, out: usize) -> Value {
        json!({
            "deepstack_visual_indexes": self.deepstack,
            "depth": self.depth,
            "dtype": "bfloat16",
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": self.hidden,
            "in_channels": CHANNELS,
            "initializer_range": 0.02,
            "intermediate_size": self.mlp,
            "model_type": "qwen3_vl",
            "num_heads": self.heads,
            "num_position_embeddings": self.positions,
            "out_hidden_size": out,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": FRAMES,
        })
    }

    /// Every tensor of the tower; `out` is the decoder's width.
    pub fn tensors(&self, out: usize) -> Vec<Tensor> {
        let hidden = self.hidden;
        let mut kernel = linear(String::new(), hidden, CHANNELS * FRAMES * PATCH * PATCH, 1.2);
        kernel.name = "model.visual.patch_embed.proj.weight".into();
        kernel.shape = vec![hidden, CHANNELS, FRAMES, PATCH, PATCH];
        let positions = Tensor {
            name: "model.visual.pos_embed.weight".into(),
            shape: vec![self.positions, hidden],
            scale: (0.0, 0.3),
        };
        let kernel_bias = bias("model.visual.patch_embed.proj.bias".into(), hidden);
        let mut tensors = vec![kernel, kernel_bias, positions];
        for block in 0..self.depth {
            let name = |part: &str| format!("model.visual.blocks.{block}.{part}");
            for part in ["norm1", "norm2"] {
                tensors.extend(layer_norm(name(part), hidden));
            }
            // Queries and keys share a tensor (and its scale) with values, so they are a little
            // smaller than as separate tensors.
            tensors.extend(dense(name("attn.qkv"), 3 * hidden, hidden, 1.6));
            tensors.extend(dense(name("attn.proj"), hidden, hidden, 1.2));
            tensors.extend(dense(name("mlp.linear_fc1"), self.mlp, hidden, 1.2));
            tensors.extend(dense(name("mlp.linear_fc2"), hidden, self.mlp, 1.2));
        }
        // Features that enter the decoder are as large as token embeddings, those added between its
        // layers as large as the layers' own updates.
        tensors.extend(self.merger("merger".into(), hidden, out, 0.2));
        for index in 0..self.deepstack.len() {
            let name = format!("deepstack_merger_list.{index}");
            tensors.extend(self.merger(name, hidden * MERGE * MERGE, out, 2.5));
        }
        tensors
    }

    /// A patch merger. Its norm, of width `normed`, is applied before or after patches are
    /// concatenated.
    fn merger(&self, name: String, normed: usize, out: usize, scale: f32) -> Vec<Tensor> {
        let name = |part: &str| format!("model.visual.{name}.{part}");
        let joined = self.hidden * MERGE * MERGE;
        let mut tensors = Vec::new();
        tensors.extend(layer_norm(name("norm"), normed));
        tensors.extend(dense(name("linear_fc1"), joined, joined, 1.2));
        tensors.extend(dense(name("linear_fc2"), out, joined, scale));
        tensors
    }
}

fn layer_norm(name: String, width: usize) -> [Tensor; 2] {
    [norm(format!("{name}.weight"), width), bias(format!("{name}.bias"), width)]
}

fn dense(name: String, outputs: usize, inputs: usize, scale: f32) -> [Tensor; 2] {
    [
        linear(format!("{name}.weight"), outputs, inputs, scale),
        bias(format!("{name}.bias"), outputs),
    ]
}

impl Published {
    /// The configuration and the files that transformers' processor reads.
    pub(super) fn vision_files(
        &self,
        vision: Vision,
        vocabulary: usize,
    ) -> Vec<(&'static str, Value)> {
        let config = json!({
            "_name_or_path": self.name,
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "dtype": "bfloat16",
            "image_token_id": 151_655,
            "model_type": "qwen3_vl",
            "text_config": self.vision_text_config(vocabulary),
            "tie_word_embeddings": self.tied,
            "transformers_version": "4.57.3",
            "video_token_id": 151_656,
            "vision_config": vision.config(self.hidden),
            "vision_end_token_id": 151_653,
            "vision_start_token_id": 151_652,
        });
        let processor = |pixels_min: usize, pixels_max: usize| {
            json!({
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "merge_size": MERGE,
                "patch_size": PATCH,
                "processor_class": "Qwen3VLProcessor",
                "size": { "longest_edge": pixels_max, "shortest_edge": pixels_min },
                "temporal_patch_size": FRAMES,
            })
        };
        let mut images = processor(65_536, 16_777_216);
        images["image_processor_type"] = json!("Qwen2VLImageProcessorFast");
        let mut videos = processor(4096, 25_165_824);
        videos["video_processor_type"] = json!("Qwen3VLVideoProcessor");
        vec![
            ("config.json", config),
            ("preprocessor_config.json", images),
            ("video_preprocessor_config.json", videos),
            ("chat_template.json", json!({ "chat_template": CHAT_TEMPLATE })),
        ]
    }

    fn vision_text_config(&self, vocabulary: usize) -> Value {
        // The published sections are [24, 20, 20] of 64 rotations.
        let side = self.head_size / 2 * 5 / 16;
        json!({
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": 151_643,
            "dtype": "bfloat16",
            "eos_token_id": 151_645,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.mlp,
            "max_position_embeddings": self.kind.tokens_max(),
            "model_type": "qwen3_vl_text",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {
                "mrope_interleaved": true,
                "mrope_section": [self.head_size / 2 - 2 * side, side, side],
                "rope_type": "default",
            },
            "rope_theta": 5_000_000,
            "tie_word_embeddings": self.tied,
            "use_cache": true,
            "vocab_size": vocabulary,
        })
    }
}
