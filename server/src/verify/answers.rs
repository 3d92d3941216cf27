//! Published answers, as data: model cards, and the tests of fastembed and
//! text-embeddings-inference.

/// What is known of one model.
#[derive(Debug)]
pub struct Known {
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
    /// Cosines of each first with each second text.
    Similarities {
        what: &'static str,
        /// The prompt of the first texts.
        prompt: Option<&'static str>,
        first: &'static [&'static str],
        second: &'static [&'static str],
        expected: &'static [f32],
        tolerance: f32,
    },
    /// The first numbers of a text's vector.
    FirstValues {
        what: &'static str,
        text: &'static str,
        dimensions: Option<usize>,
        normalize: bool,
        expected: &'static [f32],
        tolerance: f32,
    },
}

impl Check {
    /// A line for people.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Similarities { what, .. } | Self::FirstValues { what, .. } => what,
        }
    }

    /// The numbers published.
    pub fn expected(&self) -> &'static [f32] {
        match self {
            Self::Similarities { expected, .. } | Self::FirstValues { expected, .. } => expected,
        }
    }

    /// How far off a number may be.
    pub fn tolerance(&self) -> f32 {
        match self {
            Self::Similarities { tolerance, .. } | Self::FirstValues { tolerance, .. } => {
                *tolerance
            }
        }
    }
}

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

const fn deep_learning(expected: &'static [f32]) -> Check {
    Check::FirstValues {
        what: "\"What is Deep Learning?\", not normalised (text-embeddings-inference's tests)",
        text: "What is Deep Learning?",
        dimensions: None,
        normalize: false,
        expected,
        tolerance: 1e-2,
    }
}

static ALL: [Known; 5] = [
    Known {
        name: "all-MiniLM-L6-v2",
        width: 384,
        checks: &[
            Check::Similarities {
                what: "three sentences (model card)",
                prompt: None,
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
                prompt: None,
                first: &["It's so sunny outside!"],
                second: &["He drove to the stadium."],
                expected: &[0.1411],
                tolerance: 5e-4,
            },
            hello_world(&[-0.034478, 0.03102, 0.00673, 0.02611, -0.039362]),
            deep_learning(&[-0.590_598_64, -0.252_523_45, 0.149_724_75, 0.054_875_79]),
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
                // Its tests run BERT with the tanh form of GELU, which is this far off.
                tolerance: 5e-4,
            },
        ],
    },
    Known {
        name: "Qwen3-Embedding-0.6B",
        width: 1024,
        checks: &[
            Check::Similarities {
                what: "two queries, two documents (model card)",
                prompt: Some("query"),
                first: &["What is the capital of China?", "Explain gravity"],
                second: &[
                    "The capital of China is Beijing.",
                    "Gravity is a force that attracts two bodies towards each other. It gives weight \
                     to physical objects and is responsible for the movement of planets around the \
                     sun.",
                ],
                expected: &[0.764_56, 0.141_43, 0.135_50, 0.599_96],
                tolerance: 5e-3,
            },
            hello_world(&[-0.014_760_84, 0.017_231_84, -0.011_954_98, -0.072_752_58, 0.002_812_29]),
        ],
    },
    Known {
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
    Known {
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
    Known {
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

/// All models of which answers are known.
pub fn all() -> &'static [Known] {
    &ALL
}
