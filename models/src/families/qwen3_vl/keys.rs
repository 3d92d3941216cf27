//! How the keys of Qwen3-VL's configuration files are handled.
//!
//! Must not know: what is done with a value.

use crate::checkpoint::keys::Is::{Bool, Number as N, Text, Thrice};
use crate::checkpoint::keys::Key;
use crate::checkpoint::keys::Rule::{Fixed, Needed, NoEffect, Object, Only, Refused, Used};
use crate::checkpoint::keys::config::{COMMON, GENERATING, HEADS, LAYERS, MLP, POSITIONS, WIDTH};
use crate::families::qwen3;

/// `config.json`.
pub const CONFIG: &[Key] = &[
    ("text_config", Object(&[TEXT, qwen3::KEYS, COMMON, GENERATING])),
    ("vision_config", Object(&[VISION, COMMON])),
    ("image_token_id", NoEffect(PLACE)),
    ("video_token_id", NoEffect(PLACE)),
    ("vision_start_token_id", NoEffect(PLACE)),
    ("vision_end_token_id", NoEffect(PLACE)),
    // transformers reads these from text_config alone.
    ("hidden_size", NoEffect(TEXTS)),
    ("vocab_size", NoEffect(TEXTS)),
    ("is_causal", NoEffect(TEXTS)),
];

/// Other files. In newer checkpoints one file has the settings of images and videos.
pub const FILES: &[(&str, &[&[Key]])] = &[
    ("preprocessor_config.json", &[IMAGES, PREPROCESSOR]),
    ("video_preprocessor_config.json", &[VIDEOS, PREPROCESSOR]),
    ("processor_config.json", &[PROCESSOR]),
];

const PLACE: &str = "tokenizer.json has the ids; images are rows of their own";
const TEXTS: &str = "text_config has it";

const QUANTISED: &str = "quantised checkpoints are not supported; use the float one";

const TEXT: &[Key] =
    &[("pad_token_id", NoEffect("nothing is padded")), ("quantization_config", Refused(QUANTISED))];

const VISION: &[Key] = &[
    ("depth", LAYERS),
    ("hidden_size", WIDTH),
    ("num_heads", HEADS),
    ("intermediate_size", MLP),
    ("out_hidden_size", WIDTH),
    ("num_position_embeddings", POSITIONS),
    ("deepstack_visual_indexes", Used),
    ("patch_size", Used),
    ("spatial_merge_size", Used),
    ("temporal_patch_size", Used),
    ("in_channels", Used),
    ("hidden_act", Used),
    ("rope_parameters", Object(&[AXIAL])),
    ("rope_theta", Only(&[N(10_000.0)])),
    ("quantization_config", Refused(QUANTISED)),
];

const AXIAL: &[Key] = &[
    ("rope_type", Only(&[Text("default"), Text("axial"), Text("axial_2d")])),
    ("rope_theta", Only(&[N(10_000.0)])),
    ("partial_rotary_factor", Only(&[N(1.0)])),
];

const PROCESSOR: &[Key] = &[
    ("image_processor", Object(&[IMAGES, PREPROCESSOR])),
    ("video_processor", Object(&[VIDEOS, PREPROCESSOR])),
    ("processor_class", Only(&[Text("Qwen3VLProcessor")])),
    ("auto_map", Refused("code that comes with a checkpoint is not run")),
    ("chat_template", NoEffect("the recipe writes the chat")),
];

/// Keys whose defaults in transformers' image processor differ.
const IMAGES: &[Key] = &[
    ("image_mean", Needed(&[Thrice(0.5)])),
    ("image_std", Needed(&[Thrice(0.5)])),
    ("patch_size", Needed(&[N(16.0)])),
];

const VIDEOS: &[Key] = &[
    ("image_mean", Fixed(&[Thrice(0.5)])),
    ("image_std", Fixed(&[Thrice(0.5)])),
    ("patch_size", Fixed(&[N(16.0)])),
];

/// Keys that `preprocessor_config.json` and `video_preprocessor_config.json` of Qwen3-VL share.
///
/// The authors' code resizes images and frames itself, within its own limits, and uses the
/// processor only to rescale them and cut them into patches. The limits in the published files
/// therefore do not apply; others are refused, since they ask for a different preprocessing.
pub const PREPROCESSOR: &[Key] = &[
    ("merge_size", Fixed(&[N(2.0)])),
    ("temporal_patch_size", Fixed(&[N(2.0)])),
    ("size", Object(&[SIZES])),
    ("min_pixels", Only(&[N(4096.0), N(65_536.0)])),
    ("max_pixels", Only(&[N(1_843_200.0), N(16_777_216.0), N(25_165_824.0)])),
    ("resample", Only(&[N(3.0)])),
    ("rescale_factor", Fixed(&[N(1.0 / 255.0)])),
    ("do_rescale", Fixed(&[Bool(true)])),
    ("do_normalize", Fixed(&[Bool(true)])),
    ("do_resize", Only(&[Bool(true)])),
    ("do_convert_rgb", Only(&[Bool(true)])),
    ("do_center_crop", Refused("images are never cropped")),
    ("crop_size", NoEffect("for do_center_crop, which is refused")),
    ("do_pad", Refused("images are never padded")),
    ("pad_size", NoEffect("for do_pad, which is refused")),
    ("default_to_square", NoEffect("sizes have bounds of pixels")),
    ("fps", Only(&[N(2.0)])),
    ("num_frames", Refused("frames are chosen by time")),
    ("min_frames", Only(&[N(4.0)])),
    ("max_frames", Only(&[N(768.0)])),
    ("do_sample_frames", NoEffect("the authors' code samples frames itself")),
    ("return_metadata", NoEffect("the answers are the same")),
    ("video_metadata", NoEffect("the answers are the same")),
    (
        "image_processor_type",
        Only(&[
            Text("Qwen2VLImageProcessor"),
            Text("Qwen2VLImageProcessorFast"),
            Text("Qwen2VLImageProcessorPil"),
            Text("Qwen3VLImageProcessor"),
            Text("Qwen3VLImageProcessorFast"),
        ]),
    ),
    ("video_processor_type", Only(&[Text("Qwen3VLVideoProcessor")])),
    ("processor_class", Only(&[Text("Qwen3VLProcessor")])),
    ("feature_extractor_type", NoEffect("says where the file comes from")),
    ("data_format", NoEffect("the answers are the same")),
    ("input_data_format", NoEffect("the answers are the same")),
    ("device", NoEffect("the answers are the same")),
    ("disable_grouping", NoEffect("the answers are the same")),
    ("return_tensors", NoEffect("the answers are the same")),
];

const SIZES: &[Key] = &[
    ("shortest_edge", Only(&[N(4096.0), N(65_536.0)])),
    ("longest_edge", Only(&[N(1_843_200.0), N(16_777_216.0), N(25_165_824.0)])),
];
