//! Converts a model's logits to labelled scores.
//!
//! Must not know: any wire format.

use proxima_engine::ScoreForm;
use proxima_models::ModelInfo;
use proxima_models::readout::ScoreFunction;

/// A scored class of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Its name.
    pub label: String,
    /// Its score: a probability, unless the checkpoint says otherwise.
    pub score: f32,
    /// Its logit.
    pub logit: f32,
}

/// A model's classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// Their names; empty if the model is not a classifier.
    pub labels: Vec<String>,
    /// The function from logits to scores.
    pub function: ScoreFunction,
}

impl Classes {
    /// The classes of a model. Scores are those of transformers' `TextClassificationPipeline` or,
    /// as the checkpoint's files define them for pairs, of sentence-transformers' `CrossEncoder`.
    pub fn of(info: &ModelInfo, form: ScoreForm) -> Self {
        let function = info.scores.map(|scores| match form {
            ScoreForm::Probability => scores.classes,
            ScoreForm::Checkpoint => scores.pairs,
        });
        Self {
            labels: info.capabilities.labels.clone().unwrap_or_default(),
            function: function.unwrap_or(ScoreFunction::Identity),
        }
    }

    /// The classes of one input, highest logit first.
    pub fn scored(&self, logits: &[f32]) -> Vec<Scored> {
        let scores = self.function.apply(logits);
        let each = self.labels.iter().zip(scores).zip(logits);
        let each = each.map(|((label, score), logit)| Scored {
            label: label.clone(),
            score,
            logit: *logit,
        });
        let mut all: Vec<Scored> = each.collect();
        // By logit, since probabilities near one may be equal.
        all.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_sorted_and_scored_as_their_function_says() {
        let classes = |count: usize, function| {
            let labels = ["a", "b", "c"][..count].iter().map(|label| (*label).to_owned()).collect();
            Classes { labels, function }
        };
        let one = classes(1, ScoreFunction::Sigmoid).scored(&[0.0]);
        assert_eq!((one.len(), one[0].score, one[0].logit), (1, 0.5, 0.0));
        let three = classes(3, ScoreFunction::Softmax).scored(&[0.0, 2.0, 1.0]);
        let order: Vec<&str> = three.iter().map(|class| class.label.as_str()).collect();
        assert_eq!(order, ["b", "c", "a"]);
        let sum: f32 = three.iter().map(|class| class.score).sum();
        assert!((sum - 1.0).abs() < 1e-6 && three[0].logit == 2.0);
        let own = classes(3, ScoreFunction::Sigmoid).scored(&[0.0, 2.0, 1.0]);
        assert_eq!(own[2].score, 0.5);
        let logits = classes(3, ScoreFunction::Identity).scored(&[0.0, 2.0, 1.0]);
        assert_eq!(logits[0].score, 2.0);
    }
}
