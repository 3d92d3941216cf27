use super::*;

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
    let elements: usize = tensors.iter().map(|tensor| tensor.elements()).sum();
    // The published file has 22,713,216 parameters, 147,840 of them in an unused pooler.
    assert_eq!(elements, 22_713_216 - 147_840);
}

#[test]
fn the_ranker_of_lists_is_as_large_as_the_published_one() {
    let tensors = of_name("jina-reranker-v3").tensors(151_936);
    let elements: usize = tensors.iter().map(|tensor| tensor.elements()).sum();
    assert_eq!(elements, 596_836_352);
}

#[test]
fn vision_checkpoints_are_as_large_as_the_published_ones() {
    let bytes = |name: &str| -> usize {
        let tensors = of_name(name).tensors(151_936);
        tensors.iter().map(|tensor| tensor.elements() * 2).sum()
    };
    assert_eq!(of_name("qwen3-vl-embedding-2b").tensors(151_936).len(), 625);
    // The published file has 4,255,140,312 bytes, 76,248 of them in the header.
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
        let id = |token: &str| {
            added.iter().find(|entry| entry["content"] == token).map(|entry| entry["id"].clone())
        };
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
