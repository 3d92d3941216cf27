//! Published answers, as data: from model cards, and from the tests of fastembed,
//! sentence-transformers and text-embeddings-inference.

/// The published answers of one model.
#[derive(Debug)]
pub struct KnownModel {
    /// Its name, without owner.
    pub name: &'static str,
    /// Components of its vectors.
    pub width: usize,
    /// What to check.
    pub checks: &'static [Check],
}

/// One published answer.
#[derive(Debug)]
pub enum Check {
    /// Cosines of each first text with each second text.
    Similarities {
        what: &'static str,
        /// The prompt of the first texts.
        prompt: TextPrefix,
        first: &'static [&'static str],
        second: &'static [&'static str],
        expected: &'static [f32],
        tolerance: f32,
    },
    /// Scores of documents for a query.
    Scores {
        what: &'static str,
        query: &'static str,
        documents: &'static [&'static str],
        /// Probabilities rather than logits.
        probabilities: bool,
        expected: &'static [f32],
        tolerance: f32,
    },
    /// Cosines of the documents with the pseudo-query made of each query and all documents.
    Listwise {
        what: &'static str,
        queries: &'static [&'static str],
        documents: &'static [&'static str],
        expected: &'static [f32],
        tolerance: f32,
    },
    /// The first components of a text's vector.
    FirstValues {
        what: &'static str,
        text: &'static str,
        dimensions: Option<usize>,
        normalize: bool,
        expected: &'static [f32],
        tolerance: f32,
    },
}

/// The prefix of texts.
#[derive(Debug, Clone, Copy)]
pub enum TextPrefix {
    Nothing,
    /// A prompt of the checkpoint.
    Prompt(&'static str),
    /// An instruction.
    Instruction(&'static str),
}

impl Check {
    /// A description, the published values, and the tolerance.
    pub fn parts(&self) -> (&'static str, &'static [f32], f32) {
        match self {
            Self::Similarities { what, expected, tolerance, .. }
            | Self::Scores { what, expected, tolerance, .. }
            | Self::Listwise { what, expected, tolerance, .. }
            | Self::FirstValues { what, expected, tolerance, .. } => (what, expected, *tolerance),
        }
    }
}

const QUERIES: &[&str] = &["What is the capital of China?", "Explain gravity"];
const DOCUMENTS: &[&str] = &[
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical \
     objects and is responsible for the movement of planets around the sun.",
];
const PLANETS: &[&str] = &[
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
];

/// Logits for four planets (sentence-transformers' tests, partly in bfloat16).
const fn red_planet(expected: &'static [f32], tolerance: f32) -> Check {
    Check::Scores {
        what: "the Red Planet, logits (sentence-transformers' tests)",
        query: "Which planet is known as the Red Planet?",
        documents: PLANETS,
        probabilities: false,
        expected,
        tolerance,
    }
}

/// Probabilities for four planets (sentence-transformers' tests, in bfloat16).
const fn red_planet_probabilities(expected: &'static [f32]) -> Check {
    Check::Scores {
        what: "the Red Planet, probabilities (sentence-transformers' tests)",
        query: "Which planet is known as the Red Planet?",
        documents: PLANETS,
        probabilities: true,
        expected,
        tolerance: 2e-2,
    }
}

const fn capital_of_france(expected: &'static [f32]) -> Check {
    Check::Scores {
        what: "the capital of France, logits (fastembed's tests)",
        query: "What is the capital of France?",
        documents: &["Paris is the capital of France.", "Berlin is the capital of Germany."],
        probabilities: false,
        expected,
        tolerance: 1e-2,
    }
}

const fn reranker(name: &'static str, checks: &'static [Check]) -> KnownModel {
    KnownModel { name, width: 0, checks }
}

const MINILM_L6: &[Check] = &[
    red_planet(&[-6.531_25, 9.6875, 6.906_25, 6.6875], 1e-1),
    capital_of_france(&[8.500_708, -2.541_011]),
];
const MINILM_L12: &[Check] = &[
    red_planet(&[-7.156_25, 9.5, 5.718_75, 6.843_75], 1e-1),
    capital_of_france(&[9.330_912, -2.038_024_7]),
];
// The same values for the original and its conversion to a classifier.
const QWEN3: &[Check] = &[red_planet(&[-3.109_297_8, 7.120_39, -0.378_754_62, 3.541_637_4], 2e-1)];

static RERANKERS: [KnownModel; 13] = [
    reranker("Qwen3-Reranker-0.6B", QWEN3),
    reranker("Qwen3-Reranker-0.6B-seq-cls", QWEN3),
    reranker(
        "bge-reranker-v2-m3",
        &[red_planet_probabilities(&[0.018_55, 1.0, 0.789_06, 0.988_28])],
    ),
    reranker(
        "bge-reranker-base",
        &[
            red_planet_probabilities(&[0.878_91, 0.996_09, 0.996_09, 0.050_29]),
            capital_of_france(&[6.157_333_4, -3.659_394]),
        ],
    ),
    reranker(
        "bge-reranker-large",
        &[red_planet_probabilities(&[0.699_22, 1.0, 0.972_66, 0.816_41])],
    ),
    reranker(
        "gte-reranker-modernbert-base",
        &[red_planet_probabilities(&[0.808_59, 0.953_12, 0.875, 0.917_97])],
    ),
    reranker(
        "gte-multilingual-reranker-base",
        &[red_planet_probabilities(&[0.386_72, 0.851_56, 0.703_12, 0.652_34])],
    ),
    reranker("jina-reranker-v1-tiny-en", &[capital_of_france(&[2.5911, 0.1122])]),
    reranker("jina-reranker-v1-turbo-en", &[capital_of_france(&[1.8295, -2.8908])]),
    reranker("ms-marco-MiniLM-L6-v2", MINILM_L6),
    reranker("ms-marco-MiniLM-L-6-v2", MINILM_L6),
    reranker("ms-marco-MiniLM-L12-v2", MINILM_L12),
    reranker("ms-marco-MiniLM-L-12-v2", MINILM_L12),
];

const fn hello_world(expected: &'static [f32]) -> Check {
    Check::FirstValues {
        what: "\"hello world\", first values (fastembed's tests)",
        text: "hello world",
        dimensions: None,
        normalize: true,
        expected,
        tolerance: 1e-3,
    }
}

const fn deep_learning(expected: &'static [f32], tolerance: f32) -> Check {
    Check::FirstValues {
        what: "\"What is Deep Learning?\", not normalised (text-embeddings-inference's tests)",
        text: "What is Deep Learning?",
        dimensions: None,
        normalize: false,
        expected,
        tolerance,
    }
}

static EMBEDDERS: [KnownModel; 17] = [
    KnownModel {
        name: "E2Rank-0.6B",
        width: 1024,
        checks: &[
            Check::Similarities {
                what: "two queries, two documents (model card)",
                prompt: TextPrefix::Prompt("query"),
                first: QUERIES,
                second: DOCUMENTS,
                expected: &[0.595_07, 0.030_42, 0.061_97, 0.562_69],
                tolerance: 5e-3,
            },
            Check::Listwise {
                what: "two lists of two documents (model card)",
                queries: QUERIES,
                documents: DOCUMENTS,
                expected: &[0.851_35, 0.242_68, 0.331_55, 0.792_34],
                tolerance: 5e-3,
            },
        ],
    },
    KnownModel {
        name: "all-MiniLM-L6-v2",
        width: 384,
        checks: &[
            Check::Similarities {
                what: "three sentences (model card)",
                prompt: TextPrefix::Nothing,
                first: &["The weather is lovely today."],
                second: &[
                    "The weather is lovely today.",
                    "It's so sunny outside!",
                    "He drove to the stadium.",
                ],
                expected: &[1.0, 0.6660, 0.1046],
                tolerance: 5e-4,
            },
            Check::Similarities {
                what: "two sentences (model card)",
                prompt: TextPrefix::Nothing,
                first: &["It's so sunny outside!"],
                second: &["He drove to the stadium."],
                expected: &[0.1411],
                tolerance: 5e-4,
            },
            hello_world(&[-0.034478, 0.03102, 0.00673, 0.02611, -0.039362]),
            deep_learning(&[-0.590_598_64, -0.252_523_45, 0.149_724_75, 0.054_875_79], 1e-2),
            Check::FirstValues {
                what: "\"test\" at 128 dimensions (text-embeddings-inference's tests)",
                text: "test",
                dimensions: Some(128),
                normalize: true,
                expected: &[
                    0.020_964_134,
                    0.045_658_05,
                    -0.066_505_864,
                    0.107_392_73,
                    -0.013_054_413,
                    -0.074_675_99,
                    0.139_894_26,
                    0.067_807_55,
                ],
                // The tests use the tanh approximation of GELU in BERT, which differs by this much.
                tolerance: 5e-4,
            },
        ],
    },
    KnownModel {
        name: "all-mpnet-base-v2",
        width: 768,
        checks: &[deep_learning(
            &[-0.072_530_95, -0.006_826_978_6, -0.134_674_98, -0.015_964_97],
            // Components are about 0.1.
            1e-3,
        )],
    },
    KnownModel {
        name: "gte-base-en-v1.5",
        width: 768,
        checks: &[deep_learning(&[0.441_512_9, 0.610_668_84, 0.069_486_84, -0.593_061_45], 1e-2)],
    },
    KnownModel {
        name: "gte-multilingual-base",
        width: 768,
        checks: &[deep_learning(&[0.016_608_043, -0.573_814_1, -1.264_700_5, 0.114_309_5], 1e-2)],
    },
    KnownModel {
        name: "snowflake-arctic-embed-m-v2.0",
        width: 768,
        checks: &[deep_learning(&[1.753_561_3, 0.799_102_84, -1.106_675_1, -0.330_901_24], 1e-2)],
    },
    KnownModel {
        name: "embeddinggemma-300m",
        width: 768,
        checks: &[deep_learning(
            &[-69.487_144, -7.106_235_5, 9.740_196, 18.997_515],
            // The vector is 718 long.
            0.3,
        )],
    },
    KnownModel {
        name: "nomic-embed-text-v1.5",
        width: 768,
        checks: &[deep_learning(&[0.272_856_35, 0.940_363_65, -2.549_177_6, -2.023_451_6], 1e-2)],
    },
    KnownModel {
        name: "nomic-embed-text-v2-moe",
        width: 768,
        checks: &[deep_learning(&[-0.770_394_8, 0.066_038_49, -0.748_162_15, -0.130_904_75], 1e-2)],
    },
    KnownModel {
        name: "jina-embeddings-v2-small-en",
        width: 512,
        checks: &[deep_learning(&[-0.736_603_6, -0.340_220_03, -0.071_639_2, 0.108_484_305], 1e-2)],
    },
    KnownModel {
        name: "jina-embeddings-v2-base-code",
        width: 768,
        checks: &[deep_learning(
            &[-0.151_090_17, -0.021_903_912, -0.083_914_59, -0.128_803_82],
            1e-2,
        )],
    },
    KnownModel {
        name: "voyage-4-nano",
        width: 2048,
        checks: &[deep_learning(&[-0.492_774_87, -0.769_601, -1.564_340_5, 1.904_349_9], 2e-2)],
    },
    KnownModel {
        name: "Qwen3-Embedding-0.6B",
        width: 1024,
        checks: &[
            Check::Similarities {
                what: "two queries, two documents (model card)",
                prompt: TextPrefix::Prompt("query"),
                first: QUERIES,
                second: DOCUMENTS,
                expected: &[0.764_56, 0.141_43, 0.135_50, 0.599_96],
                tolerance: 5e-3,
            },
            hello_world(&[-0.014_760_84, 0.017_231_84, -0.011_954_98, -0.072_752_58, 0.002_812_29]),
        ],
    },
    KnownModel {
        name: "Qwen3-VL-Embedding-2B",
        width: 2048,
        checks: &[Check::Similarities {
            what: "a query and its document (the model's repository)",
            prompt: TextPrefix::Instruction(
                "Retrieve images or text relevant to the user's query.",
            ),
            first: &["A woman playing with her dog on a beach at sunset."],
            second: &[
                "A woman shares a joyful moment with her golden retriever on a sun-drenched \
                       beach at sunset, as the dog offers its paw in a heartwarming display of \
                       companionship and trust.",
            ],
            expected: &[0.789_62],
            tolerance: 5e-3,
        }],
    },
    KnownModel {
        name: "bge-small-en-v1.5",
        width: 384,
        checks: &[hello_world(&[
            0.015_223_74,
            -0.022_717_99,
            0.008_602_78,
            -0.074_240_29,
            0.003_864_34,
        ])],
    },
    KnownModel {
        name: "bge-base-en-v1.5",
        width: 768,
        checks: &[hello_world(&[
            0.011_293_94,
            0.054_931_44,
            0.026_151_09,
            0.003_287_72,
            0.029_960_45,
        ])],
    },
    KnownModel {
        name: "bge-large-en-v1.5",
        width: 1024,
        checks: &[hello_world(&[
            0.034_345_38,
            0.033_161_08,
            0.021_912_51,
            -0.037_133_58,
            -0.015_778_25,
        ])],
    },
];

/// All models with published answers.
pub fn all() -> impl Iterator<Item = &'static KnownModel> {
    EMBEDDERS.iter().chain(&RERANKERS)
}
