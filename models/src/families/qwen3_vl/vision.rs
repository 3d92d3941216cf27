//! The vision tower: patches of images and frames pass through pre-norm blocks with full attention,
//! 2-D rotary positions and interpolated learned positions, and are merged four to a token
//! (transformers `modeling_qwen3_vl.py`, `Qwen3VLVisionModel`).
//!
//! Must not know: tokens, the decoder, file formats.

use std::collections::HashMap;
use std::ops::Range;

use proxima_kernels::ops::attention::attention_for;
use proxima_kernels::ops::embedding::Embedding;
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::linear_input::LinearInput;
use proxima_kernels::ops::rotary::rotary;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Activation, Corner, Heads, Mask, segments_of};
use proxima_kernels::{BatchRows, Device, KernelError};
use serde::Deserialize;

use super::patches::{
    CHANNELS, FRAMES, MERGE, PATCH, PATCH_VALUES, coordinates, corners, grid, patch,
};
use crate::batch::Visual;
use crate::checkpoint::CheckpointError;
use crate::layers::{DecoderConfig, LayerNorm, LinearPart, Loader, Rotary, activation};
use proxima_media::Pixels;

/// Epsilon of all norms.
const EPS: f32 = 1e-6;
/// Base of the rotary frequencies.
const THETA: f64 = 10_000.0;

/// `vision_config` of `config.json`; defaults are those of transformers' `Qwen3VLVisionConfig`.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    depth: usize,
    hidden_size: usize,
    num_heads: usize,
    intermediate_size: usize,
    out_hidden_size: usize,
    num_position_embeddings: usize,
    deepstack_visual_indexes: Vec<usize>,
    patch_size: usize,
    spatial_merge_size: usize,
    temporal_patch_size: usize,
    in_channels: usize,
    hidden_act: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            depth: 27,
            hidden_size: 1152,
            num_heads: 16,
            intermediate_size: 4304,
            out_hidden_size: 3584,
            num_position_embeddings: 2304,
            deepstack_visual_indexes: vec![8, 16, 24],
            patch_size: 16,
            spatial_merge_size: 2,
            temporal_patch_size: 2,
            in_channels: 3,
            hidden_act: "gelu_pytorch_tanh".into(),
        }
    }
}

impl Config {
    /// Checks that this tower can be served with such a decoder.
    pub fn check(&self, decoder: &DecoderConfig) -> Result<(), String> {
        let shape = [self.patch_size, self.spatial_merge_size, self.temporal_patch_size];
        if shape != [PATCH, MERGE, FRAMES] || self.in_channels != CHANNELS {
            return Err(format!("vision_config: patches of {shape:?} are not supported"));
        }
        let (side, points) = (self.side(), self.num_position_embeddings);
        if points == 0 || side * side != points {
            return Err(format!("vision_config: {points} positions are not a square number"));
        }
        let heads = self.num_heads;
        if heads == 0 || !self.hidden_size.is_multiple_of(4 * heads) || self.hidden_size == 0 {
            let problem = "heads must divide hidden_size into multiples of four";
            return Err(format!("vision_config: {problem}"));
        }
        if self.out_hidden_size != decoder.hidden || self.intermediate_size == 0 {
            return Err("vision_config: out_hidden_size is not the decoder's hidden_size".into());
        }
        let deep = &self.deepstack_visual_indexes;
        if deep.iter().any(|layer| *layer >= self.depth) || deep.len() > decoder.layers {
            return Err(format!("vision_config: deepstack_visual_indexes {deep:?} are not layers"));
        }
        if (1..deep.len()).any(|index| deep[..index].contains(&deep[index])) {
            return Err(format!(
                "vision_config: deepstack_visual_indexes {deep:?} has an index twice"
            ));
        }
        if activation(&self.hidden_act).is_none() {
            return Err(format!(
                "vision_config: hidden_act {:?} is not supported",
                self.hidden_act
            ));
        }
        Ok(())
    }

    /// Side of the square table of learned positions.
    fn side(&self) -> usize {
        self.num_position_embeddings.isqrt()
    }

    fn heads(&self) -> Heads {
        let (heads, size) = (self.num_heads, self.hidden_size / self.num_heads);
        Heads { heads, kv_heads: heads, size }
    }
}

/// The tower.
pub struct VisionTower {
    embed: Linear,
    positions: Embedding,
    /// Side of the square table of learned positions.
    side: usize,
    rotary: Rotary,
    heads: Heads,
    activation: Activation,
    blocks: Vec<VisionBlock>,
    merger: Merger,
    /// Blocks whose hidden states are merged too (DeepStack), and their mergers.
    deep: Vec<(usize, Merger)>,
    device: Device,
}

struct VisionBlock {
    attention_norm: LayerNorm,
    qkv: Linear,
    output: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

/// Merges patches into tokens.
struct Merger {
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    /// Whether the norm is over a token's patches together rather than over each patch.
    normed_together: bool,
}

/// The tower's output: image tokens from its last block and from middle ones.
pub struct VisionOutput {
    /// For each group of images encoded together, a tensor per level: the last block's tokens, then
    /// those of middle blocks.
    groups: Vec<Vec<Rows>>,
    /// Group and rows of each image's tokens, by the digest of its pixels.
    token_rows: HashMap<[u8; 32], (usize, Range<usize>)>,
    levels: usize,
}

impl VisionOutput {
    /// Number of levels: the last block's and those of middle blocks.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Puts the tokens of a level into the images' rows of a batch: those of the last block (level
    /// 0) overwrite the rows, others are added.
    ///
    /// # Errors
    /// A device failure.
    pub fn put(
        &self,
        level: usize,
        visuals: &[Visual],
        hidden: &mut Rows,
    ) -> Result<(), KernelError> {
        for visual in visuals {
            let (group, rows) = &self.token_rows[visual.pixels.digest()];
            let from = &self.groups[*group][level];
            hidden.put(visual.start, from, rows.clone(), level > 0)?;
        }
        Ok(())
    }
}

impl VisionTower {
    /// Loads the tower under the loader's prefix.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(loader: &Loader<'_>, config: &Config) -> Result<Self, CheckpointError> {
        let (hidden, device) = (config.hidden_size, loader.device());
        let failed = |error| loader.failed(error);
        let table = &[config.num_position_embeddings, hidden];
        let table = loader.stored("pos_embed.weight", table)?;
        let heads = config.heads();
        let block = |block| VisionBlock::load(&loader.at(&format!("blocks.{block}.")), config);
        let deep = config.deepstack_visual_indexes.iter().enumerate();
        let deep = deep.map(|(index, block)| {
            let loader = loader.at(&format!("deepstack_merger_list.{index}."));
            Ok((*block, Merger::load(&loader, config, true)?))
        });
        let kernel = [CHANNELS, FRAMES, PATCH, PATCH];
        Ok(Self {
            embed: loader.convolution("patch_embed.proj", &kernel, hidden)?,
            positions: Embedding::new(table, device).map_err(failed)?,
            side: config.side(),
            rotary: Rotary::new(THETA, heads.size / 2, device).map_err(failed)?,
            heads,
            activation: activation(&config.hidden_act).unwrap_or(Activation::GeluTanh),
            blocks: (0..config.depth).map(block).collect::<Result<_, _>>()?,
            merger: Merger::load(&loader.at("merger."), config, false)?,
            deep: deep.collect::<Result<_, CheckpointError>>()?,
            device: device.clone(),
        })
    }

    /// Encodes the images of a batch, each once. Small images are encoded together, up to what fits
    /// the caches; `pause` is called between blocks.
    ///
    /// # Errors
    /// A failure of the device or an operation.
    pub fn encode(
        &self,
        visuals: &[Visual],
        pause: &dyn Fn(),
    ) -> Result<VisionOutput, KernelError> {
        let patches_max = MERGE * BatchRows::of(&self.device).before_measured();
        let mut token_rows = HashMap::new();
        let mut groups: Vec<(usize, Vec<&Pixels>)> = Vec::new();
        for Visual { pixels, .. } in visuals {
            if token_rows.contains_key(pixels.digest()) {
                continue;
            }
            let [rows, columns] = grid(pixels);
            let patches = rows * columns;
            if groups.last().is_none_or(|(together, _)| together + patches > patches_max) {
                groups.push((0, Vec::new()));
            }
            let group = groups.len() - 1;
            let (together, images) = &mut groups[group];
            let first = *together / (MERGE * MERGE);
            token_rows.insert(*pixels.digest(), (group, first..first + patches / (MERGE * MERGE)));
            *together += patches;
            images.push(pixels);
        }
        let groups = groups.into_iter().map(|(_, images)| self.encode_together(&images, pause));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        Ok(VisionOutput { groups, token_rows, levels: 1 + self.deep.len() })
    }

    /// The tokens of some images, end to end, one tensor per level.
    fn encode_together(
        &self,
        images: &[&Pixels],
        pause: &dyn Fn(),
    ) -> Result<Vec<Rows>, KernelError> {
        let mut offsets = vec![0];
        let (mut at, mut owners, mut around) = (Vec::new(), Vec::new(), Vec::new());
        for (image, pixels) in images.iter().enumerate() {
            at.extend(coordinates(grid(pixels)));
            around.extend(corners(grid(pixels), self.side));
            owners.resize(at.len(), image);
            offsets.push(at.len());
        }
        let mut hidden = self.embed(images, &at, &owners, &around)?;
        let segments = segments_of(&offsets);
        let longest = at.iter().flatten().max().map_or(0, |coordinate| *coordinate as usize + 1);
        let quarter = self.heads.size / 4;
        let streams: Vec<(usize, usize)> =
            (0..2 * quarter).map(|angle| (angle / quarter, angle % quarter)).collect();
        let tables = self.rotary.tables(longest)?.gathered(&at, &streams)?;
        let positions: Vec<u32> = (0..at.len() as u32).collect();
        let mut levels = Vec::with_capacity(self.deep.len());
        for (index, block) in self.blocks.iter().enumerate() {
            pause();
            let (_, normed) =
                block.attention_norm.forward_for(&hidden, block.qkv.input_layout())?;
            let qkv = block.qkv.of(&normed, None, None)?;
            let qkv = rotary(qkv, self.heads, None, &positions, &tables)?;
            let mixed = attention_for(
                &qkv,
                self.heads,
                segments.as_slice().into(),
                Mask::Full,
                &block.output,
            )?;
            hidden = block.output.of(&mixed, None, Some(&hidden))?;
            let (_, normed) = block.mlp_norm.forward_for(&hidden, block.up.input_layout())?;
            let wide =
                block.up.apply_for(&normed, Some(self.activation), block.down.input_layout())?;
            hidden = block.down.of(&wide, None, Some(&hidden))?;
            for (_, merger) in self.deep.iter().filter(|(block, _)| *block == index) {
                levels.push(merger.merge(&hidden)?);
            }
        }
        levels.insert(0, self.merger.merge(&hidden)?);
        Ok(levels)
    }

    /// Hidden states of patches before the first block.
    fn embed(
        &self,
        images: &[&Pixels],
        at: &[[u32; 2]],
        owners: &[usize],
        around: &[[Corner; 4]],
    ) -> Result<Rows, KernelError> {
        let patches = Rows::written([at.len(), PATCH_VALUES], &self.device, |row, out| {
            patch(images[owners[row]], at[row], out);
        })?;
        let patches = LinearInput::of_rows(&patches, self.embed.input_layout())?;
        self.positions.add_weighted(around, self.embed.of(&patches, None, None)?)
    }
}

impl VisionBlock {
    fn load(loader: &Loader<'_>, config: &Config) -> Result<Self, CheckpointError> {
        let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| LayerNorm::load(loader, name, hidden, EPS, true);
        Ok(Self {
            attention_norm: norm("norm1")?,
            qkv: loader.linear(&[LinearPart::new("attn.qkv", 3 * hidden)], hidden, true)?,
            output: loader.linear(&[LinearPart::new("attn.proj", hidden)], hidden, true)?,
            mlp_norm: norm("norm2")?,
            up: loader.linear(&[LinearPart::new("mlp.linear_fc1", mlp)], hidden, true)?,
            down: loader.linear(&[LinearPart::new("mlp.linear_fc2", hidden)], mlp, true)?,
        })
    }
}

impl Merger {
    fn load(
        loader: &Loader<'_>,
        config: &Config,
        normed_together: bool,
    ) -> Result<Self, CheckpointError> {
        let wide = config.hidden_size * MERGE * MERGE;
        let width = if normed_together { wide } else { config.hidden_size };
        Ok(Self {
            norm: LayerNorm::load(loader, "norm", width, EPS, true)?,
            up: loader.linear(&[LinearPart::new("linear_fc1", wide)], wide, true)?,
            down: loader.linear(
                &[LinearPart::new("linear_fc2", config.out_hidden_size)],
                wide,
                true,
            )?,
            normed_together,
        })
    }

    fn merge(&self, hidden: &Rows) -> Result<Rows, KernelError> {
        let [rows, width] = hidden.shape()?;
        let together = (rows / (MERGE * MERGE), width * MERGE * MERGE);
        let hidden = hidden.tensor()?;
        let normed = if self.normed_together {
            self.norm.forward(&hidden.reshape(together)?)?
        } else {
            self.norm.forward(&hidden)?.reshape(together)?
        };
        let normed = LinearInput::of(&normed, self.up.input_layout())?;
        let wide = self.up.apply_for(&normed, Some(Activation::Gelu), self.down.input_layout())?;
        self.down.of(&wide, None, None)
    }
}
