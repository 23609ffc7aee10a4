//! The clients' optimisers: SGD and `AdamW`, with the semantics of PyTorch's classes of these names.
//!
//! One optimiser serves a cohort: every tensor is `[G, N]`, row `g` holding all `N` trained values of client `g`.
//! The update is element by element, so a row never depends on the others. State is rebuilt every round: moments
//! kept over a server's change of basis (`FedSVD`) or merge would belong to parameters that no longer exist.

use burn::tensor::Tensor;
use fedlora_adapter::Optimizer;

/// An optimiser with its state.
#[derive(Debug)]
pub(crate) struct GroupOptimizer {
    kind: Optimizer,
    steps: i32,
    /// Momentum of SGD, first moment of `AdamW`; none before the first step.
    first: Option<Tensor<2>>,
    /// Second moment of `AdamW`; none before the first step.
    second: Option<Tensor<2>>,
}

impl GroupOptimizer {
    /// A fresh optimiser.
    pub(crate) fn new(kind: Optimizer) -> Self {
        Self { kind, steps: 0, first: None, second: None }
    }

    /// One step: the new parameters from the old ones, their gradient `[G, N]` and the rates, `[G, 1]` or `[G, N]`.
    pub(crate) fn step(&mut self, parameters: Tensor<2>, gradient: Tensor<2>, rates: Tensor<2>) -> Tensor<2> {
        self.steps += 1;
        match self.kind {
            Optimizer::Sgd { momentum, weight_decay } => {
                let gradient =
                    if weight_decay == 0.0 { gradient } else { gradient + parameters.clone().mul_scalar(weight_decay) };
                parameters - self.velocity(gradient, momentum) * rates
            }
            Optimizer::Adamw { beta_1, beta_2, epsilon, weight_decay } => {
                let direction = self.direction(gradient, beta_1, beta_2, epsilon);
                let parameters = if weight_decay == 0.0 {
                    parameters
                } else {
                    parameters * rates.clone().mul_scalar(-weight_decay).add_scalar(1.0)
                };
                let correction = 1.0 - beta_1.powi(self.steps);
                parameters - direction * rates.div_scalar(correction)
            }
        }
    }

    /// Keeps the clients whose rows are given, in this order.
    pub(super) fn keep(&mut self, keep: impl Fn(Tensor<2>) -> Tensor<2>) {
        self.first = self.first.take().map(&keep);
        self.second = self.second.take().map(&keep);
    }

    /// PyTorch's heavy ball: `v ← momentum·v + gradient`, without dampening, starting at the first gradient.
    fn velocity(&mut self, gradient: Tensor<2>, momentum: f64) -> Tensor<2> {
        if momentum == 0.0 {
            return gradient;
        }
        let velocity = match self.first.take() {
            Some(velocity) => velocity.mul_scalar(momentum) + gradient,
            None => gradient,
        };
        self.first.insert(velocity).clone()
    }

    /// `m / (sqrt(v / (1 - beta_2^t)) + epsilon)` (arXiv 1412.6980, algorithm 1); the caller corrects `m`'s bias.
    fn direction(&mut self, gradient: Tensor<2>, beta_1: f64, beta_2: f64, epsilon: f64) -> Tensor<2> {
        let squared = gradient.clone() * gradient.clone();
        let first = decay(self.first.take(), gradient, beta_1);
        let second = decay(self.second.take(), squared, beta_2);
        let root_correction = (1.0 - beta_2.powi(self.steps)).sqrt();
        let root = second.clone().sqrt().div_scalar(root_correction).add_scalar(epsilon);
        self.second = Some(second);
        self.first.insert(first).clone() / root
    }
}

/// `beta·moment + (1 - beta)·value`; a moment starts at zero.
fn decay(moment: Option<Tensor<2>>, value: Tensor<2>, beta: f64) -> Tensor<2> {
    let value = value.mul_scalar(1.0 - beta);
    match moment {
        Some(moment) => moment.mul_scalar(beta) + value,
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use serde::Deserialize;

    use super::*;
    use crate::device;

    /// What `learner/tests/golden/optimizers.py` wrote with PyTorch's `torch.optim.SGD` and `torch.optim.AdamW`.
    const GOLDEN: &str = include_str!("../../tests/golden/optimizers.json");

    #[derive(Deserialize)]
    struct Golden {
        optimizer: Optimizer,
        rates: Vec<f64>,
        start: Vec<f32>,
        gradients: Vec<Vec<f32>>,
        parameters: Vec<Vec<f32>>,
    }

    fn tensor(rows: usize, values: Vec<f32>) -> Tensor<2> {
        let columns = values.len() / rows;
        Tensor::from_data(TensorData::new(values, [rows, columns]), &device("cpu").unwrap())
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn five_steps_agree_with_pytorch() {
        for case in serde_json::from_str::<Vec<Golden>>(GOLDEN).unwrap() {
            let mut optimizer = GroupOptimizer::new(case.optimizer);
            let mut parameters = tensor(1, case.start);
            for (step, gradient) in case.gradients.into_iter().enumerate() {
                let rates = tensor(1, vec![case.rates[step] as f32]);
                parameters = optimizer.step(parameters, tensor(1, gradient), rates);
                for (found, expected) in values(parameters.clone()).iter().zip(&case.parameters[step]) {
                    // A step is fewer than ten roundings of numbers below 2: 10 · 2 · 2^-24 each, five steps.
                    assert!((found - expected).abs() < 6e-6, "{:?} step {step}: {found} {expected}", case.optimizer);
                }
            }
        }
    }

    #[test]
    fn a_client_is_updated_as_if_it_were_alone() {
        for case in serde_json::from_str::<Vec<Golden>>(GOLDEN).unwrap() {
            let other: Vec<f32> = case.start.iter().map(|x| 3.0 * x - 1.0).collect();
            let (mut alone, mut pair) = (GroupOptimizer::new(case.optimizer), GroupOptimizer::new(case.optimizer));
            let mut parameters = tensor(1, case.start.clone());
            let mut both = tensor(2, [other, case.start].concat());
            for gradient in case.gradients {
                let doubled = gradient.iter().map(|x| x * 2.0).chain(gradient.iter().copied()).collect();
                parameters = alone.step(parameters, tensor(1, gradient.clone()), tensor(1, vec![0.01]));
                both = pair.step(both, tensor(2, doubled), tensor(2, vec![0.3, 0.01]));
            }
            // Bit-equal: the same operations on the same element.
            assert_eq!(values(parameters), values(both.narrow(0, 1, 1)));
        }
    }
}
