use super::*;
use crate::{Checkpoint, Input, LoadOptions, Model, Prepare, RaggedBatch};

fn made(name: &str, seed: u64) -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(name, folder.path(), &SynthOptions { seed, tokenizer: None }).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    let model = Model::load(&checkpoint, &LoadOptions::default()).expect("loaded");
    (folder, model)
}

fn embed(model: &Model, texts: &[&str]) -> Vec<Vec<f32>> {
    let prepare = |text: &&str| {
        let input = Input::Text((*text).to_owned());
        model.recipe.prepare(&input, &Prepare::default()).expect("prepared")
    };
    let sequences: Vec<_> = texts.iter().map(prepare).collect();
    let hidden = model.encoder.encode(&RaggedBatch::new(&sequences)).expect("encoded");
    let readout = model.readouts.embedding.as_ref().expect("an embedder");
    let vectors = readout.embed(&hidden).expect("read out");
    vectors.iter().map(|vector| crate::readout::finish(vector, None, true)).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn every_tiny_checkpoint_loads_and_tells_texts_apart() {
    for name in ["tiny-qwen3", "tiny-qwen3-sharded", "tiny-bert", "tiny-bert-dense"] {
        let (_folder, model) = made(name, 1);
        let vectors = embed(&model, &["a quick brown fox", "stocks fell sharply today"]);
        let cosine_of_two = cosine(&vectors[0], &vectors[1]);
        assert!(cosine_of_two < 0.5, "{name} hardly sees its input: {cosine_of_two}");
        assert!((cosine(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_in_any_batch() {
    let long = "a long text ".repeat(60);
    let texts = ["one", "", "two words", long.as_str(), "end", "two words"];
    for name in ["tiny-qwen3", "tiny-bert"] {
        let (_folder, model) = made(name, 2);
        let together = embed(&model, &texts);
        for (text, vector) in texts.iter().zip(&together) {
            assert_eq!(&embed(&model, &[text])[0], vector, "{name}: {text:?}");
        }
        let reversed: Vec<&str> = texts.iter().rev().copied().collect();
        let mut backwards = embed(&model, &reversed);
        backwards.reverse();
        assert_eq!(backwards, together);
    }
}

#[test]
fn a_seed_gives_the_same_bytes_and_another_seed_gives_others() {
    let file = |seed: u64| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = SynthOptions { seed, tokenizer: None };
        write("tiny-bert", folder.path(), &options).expect("written");
        fs::read(folder.path().join("model.safetensors")).expect("read")
    };
    assert_eq!(file(7), file(7));
    assert_ne!(file(7), file(8));
}

#[test]
fn unknown_names_and_full_folders_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    let error = write("qwen3-embedding-9b", folder.path(), &options).expect_err("unknown");
    assert!(error.to_string().contains("qwen3-embedding-0.6b"), "{error}");
    fs::write(folder.path().join("mine"), "kept").expect("written");
    let error = write("tiny-bert", folder.path(), &options).expect_err("not empty");
    assert!(error.to_string().contains("not empty"), "{error}");
}

fn of_name(name: &str) -> Published {
    configs::all().into_iter().find(|published| published.name == name).expect("known")
}

#[test]
fn minilm_is_as_large_as_the_published_one() {
    let tensors = of_name("minilm-l6").tensors(30_522);
    let numbers: usize = tensors.iter().map(|tensor| tensor.elements()).sum();
    // The published file has 22,713,216 numbers, 147,840 of them of a head that nothing uses.
    assert_eq!(numbers, 22_713_216 - 147_840);
}

#[test]
fn vision_checkpoints_are_as_large_as_the_published_ones() {
    let bytes = |name: &str| -> usize {
        let tensors = of_name(name).tensors(151_936);
        tensors.iter().map(|tensor| tensor.elements() * 2).sum()
    };
    assert_eq!(of_name("qwen3-vl-embedding-2b").tensors(151_936).len(), 625);
    // The published file has 4,255,140,312 bytes, of which 76,248 are the header.
    assert_eq!(bytes("qwen3-vl-embedding-2b"), 4_255_064_064);
    assert_eq!(bytes("qwen3-vl-reranker-2b"), bytes("qwen3-vl-embedding-2b"));
    assert_eq!(bytes("qwen3-vl-embedding-8b"), 17_534_247_392);
    assert_eq!(bytes("qwen3-vl-reranker-8b"), bytes("qwen3-vl-embedding-8b"));
}

#[test]
fn vision_checkpoints_have_the_published_names_and_files() {
    for (name, judges) in [("tiny-qwen3-vl", false), ("tiny-qwen3-vl-reranker", true)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = SynthOptions { seed: 1, tokenizer: None };
        write(name, folder.path(), &options).expect("written");
        let read = |file: &str| -> Value {
            let text = fs::read_to_string(folder.path().join(file)).expect(file);
            serde_json::from_str(&text).expect("JSON")
        };
        let config = read("config.json");
        assert_eq!(config["text_config"]["rope_scaling"]["mrope_section"], json!([6, 5, 5]));
        assert!(config["text_config"]["vocab_size"].as_u64() > config["video_token_id"].as_u64());
        assert_eq!(read("preprocessor_config.json")["patch_size"], 16);
        assert_eq!(read("video_preprocessor_config.json")["temporal_patch_size"], 2);
        assert!(read("chat_template.json")["chat_template"].is_string());
        let tokenizer = read("tokenizer.json");
        let added = tokenizer["added_tokens"].as_array().expect("tokens");
        let id =
            |token: &str| added.iter().find(|it| it["content"] == token).map(|it| it["id"].clone());
        assert_eq!(id("<|image_pad|>"), Some(config["image_token_id"].clone()));
        assert_eq!(id("<|video_pad|>"), Some(config["video_token_id"].clone()));
        assert_eq!(id("<|vision_start|>"), Some(config["vision_start_token_id"].clone()));
        assert_eq!(id("<|vision_end|>"), Some(config["vision_end_token_id"].clone()));
        assert_eq!(tokenizer["model"]["vocab"]["yes"].as_u64(), judges.then_some(9693));
        assert_eq!(tokenizer["post_processor"].is_null(), judges, "who appends an end of text");
        let found = fs::read(folder.path().join("model.safetensors")).expect("weights");
        let tensors = safetensors::SafeTensors::deserialize(&found).expect("safetensors");
        for (name, shape) in [
            ("model.language_model.embed_tokens.weight", vec![151_680, 64]),
            ("model.language_model.layers.3.self_attn.q_norm.weight", vec![32]),
            ("model.visual.patch_embed.proj.weight", vec![64, 3, 2, 16, 16]),
            ("model.visual.pos_embed.weight", vec![144, 64]),
            ("model.visual.blocks.3.attn.qkv.bias", vec![192]),
            ("model.visual.merger.norm.weight", vec![64]),
            ("model.visual.deepstack_merger_list.2.norm.weight", vec![256]),
            ("model.visual.deepstack_merger_list.2.linear_fc2.weight", vec![64, 256]),
        ] {
            assert_eq!(tensors.tensor(name).expect(name).shape(), shape, "{name}");
        }
    }
}
