//! The three evaluations of a federated model, kept apart.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{Adapter, AdapterError, AdapterSpec, ClientId, Directive, HeadPolicy, RoundId, Side};
use fedlora_client::{KeptStore, Participant};
use fedlora_learner::{Evaluation, EvaluationPlan, LearnerError, Model};

use crate::{
    metrics::Evaluations,
    states::{StateError, States},
};

/// Why a model could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// The forward pass failed.
    #[error(transparent)]
    Learner(#[from] LearnerError),
    /// A client's kept tensors cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A client's kept tensors do not fit.
    #[error("{client}: kept state does not fit the adapter")]
    Mismatch {
        /// The client.
        client: ClientId,
        /// Why.
        #[source]
        source: AdapterError,
    },
}

/// What models are evaluated on.
#[derive(Debug, Clone)]
pub struct Evaluator {
    /// The base model.
    pub model: Arc<dyn Model>,
    /// The global test set.
    pub test: EvaluationPlan,
    /// Clients whose personal models are evaluated, with the rows that each holds out, label-matched to those it
    /// trains on; none where it holds out none.
    pub own_tests: BTreeMap<ClientId, Option<EvaluationPlan>>,
}

impl Evaluator {
    /// All three evaluations. Where clients keep nothing, their personal model is the global one; where they keep
    /// something there is no global model, except before the first round, when it is the base.
    ///
    /// # Errors
    /// Non-finite logits, or kept tensors that cannot be read.
    pub fn evaluate(
        &self,
        round: RoundId,
        global: &Adapter,
        directive: Directive,
        states: &States,
    ) -> Result<Evaluations, EvaluationError> {
        let personal = keeps_something(directive, global.spec());
        let on_test = |adapter: &Adapter| self.test.evaluate(&*self.model, adapter);
        let global_on_test = if round.0 == 0 || !personal { Some(on_test(global)?) } else { None };
        let (mut own, mut everywhere) = (Vec::new(), Vec::new());
        for (&client, own_test) in &self.own_tests {
            let participant = Participant::new(client, states.load(client)?);
            let adapter = participant
                .adapter(directive, global)
                .map_err(|source| EvaluationError::Mismatch { client, source })?;
            if let Some(plan) = own_test {
                own.push(plan.evaluate(&*self.model, &adapter)?);
            }
            everywhere.push(match global_on_test {
                Some(shared) => shared,
                None => on_test(&adapter)?,
            });
        }
        Ok(Evaluations { global: global_on_test, personal_own: mean(&own), personal_global: mean(&everywhere) })
    }
}

/// Whether clients have anything of their own under a directive. A personal head is nothing where adapters have no head.
fn keeps_something(directive: Directive, spec: &AdapterSpec) -> bool {
    let kept = |side| directive.train.contains(side) && !directive.download.contains(side);
    let keeps_head = directive.head == HeadPolicy::Personal && spec.trainable_head().next().is_some();
    keeps_head || kept(Side::A) || kept(Side::B)
}

/// Unweighted mean over clients: a small institution counts as much as a large one. Perplexity is that of the mean loss.
fn mean(evaluations: &[Evaluation]) -> Option<Evaluation> {
    let count = evaluations.len() as f64;
    let average = |value: fn(&Evaluation) -> f64| evaluations.iter().map(value).sum::<f64>() / count;
    let loss = average(|evaluation| evaluation.loss);
    let macro_f1: Option<f64> = evaluations.iter().map(|evaluation| evaluation.macro_f1).sum();
    let exact_match: Option<f64> = evaluations.iter().map(|evaluation| evaluation.exact_match).sum();
    let tokens: Option<u64> = evaluations.iter().map(|evaluation| evaluation.tokens).sum();
    (!evaluations.is_empty()).then(|| Evaluation {
        examples: evaluations.iter().map(|evaluation| evaluation.examples).sum(),
        tokens,
        loss,
        accuracy: average(|evaluation| evaluation.accuracy),
        macro_f1: macro_f1.map(|sum| sum / count),
        perplexity: tokens.map(|_| loss.exp()),
        exact_match: exact_match.map(|sum| sum / count),
    })
}
