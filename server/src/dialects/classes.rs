//! Logits of a model to labelled probabilities.
//!
//! Must not know: any wire format.

use proxima_models::readout::{sigmoid, softmax};

use crate::http::App;

/// A class of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Its name.
    pub label: String,
    /// Its probability.
    pub probability: f32,
    /// Its logit.
    pub logit: f32,
}

/// Names of a model's classes; none if it classifies nothing.
pub fn labels(app: &App, model: &str) -> Vec<String> {
    let engine = app.registry().get(Some(model)).ok();
    engine.and_then(|(_, engine)| engine.info().capabilities.labels.clone()).unwrap_or_default()
}

/// The classes of one input, the most probable first. A single class is a yes or no of its own;
/// several exclude each other.
pub fn scored(labels: &[String], logits: &[f32]) -> Vec<Scored> {
    let probabilities = match logits {
        [logit] => vec![sigmoid(*logit)],
        logits => softmax(logits),
    };
    let each = labels.iter().zip(probabilities).zip(logits);
    let each = each.map(|((label, probability), logit)| Scored {
        label: label.clone(),
        probability,
        logit: *logit,
    });
    let mut all: Vec<Scored> = each.collect();
    // By logit, since probabilities near one are equal.
    all.sort_by(|a, b| b.logit.total_cmp(&a.logit));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_is_a_sigmoid_and_several_a_softmax() {
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let one = scored(&names[..1], &[0.0]);
        assert_eq!((one.len(), one[0].probability, one[0].logit), (1, 0.5, 0.0));
        let three = scored(&names, &[0.0, 2.0, 1.0]);
        let order: Vec<&str> = three.iter().map(|it| it.label.as_str()).collect();
        assert_eq!(order, ["b", "c", "a"]);
        let sum: f32 = three.iter().map(|it| it.probability).sum();
        assert!((sum - 1.0).abs() < 1e-6 && three[0].logit == 2.0);
    }
}
