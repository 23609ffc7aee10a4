//! All trained values of a cohort as one matrix, `[G, N]`: row `g` is client `g`'s trained tensors one after another.
//!
//! Norms, optimisers and regrouping then are a few operations on one tensor rather than on some dozen small ones, and
//! "one norm over all trained tensors of one client" is the norm of a row.

use burn::tensor::{Device, Int, Tensor, TensorData};
use fedlora_adapter::Side;

use crate::{GroupedAdapter, Parameter, ParameterKey};

/// The current values, without their place in the graph.
pub(super) fn values(adapters: &GroupedAdapter) -> Tensor<2> {
    rows(adapters.parameters().iter().map(|parameter| parameter.value.clone().inner()).collect())
}

/// The gradients of a loss; zero for a tensor that it does not depend on.
pub(super) fn gradients(adapters: &GroupedAdapter, loss: &Tensor<1>) -> Tensor<2> {
    rows(adapters.gradients(loss))
}

/// Replaces all trained values; they are leaves of a new graph.
pub(super) fn set_values(adapters: &mut GroupedAdapter, values: &Tensor<2>) {
    let mut start = 0;
    for parameter in adapters.parameters_mut() {
        let [groups, rows, columns] = parameter.value.dims();
        let end = start + rows * columns;
        let value = values.clone().slice([0..groups, start..end]).reshape([groups, rows, columns]);
        parameter.replace(value);
        start = end;
    }
}

/// What each value's learning rate is multiplied by, `[1, N]`: `ratio` for the factors `B`; none where all are 1.
pub(super) fn rate_ratios(adapters: &GroupedAdapter, ratio: f64) -> Option<Tensor<2>> {
    if ratio.to_bits() == 1.0_f64.to_bits() {
        return None;
    }
    let of = |parameter: &Parameter| {
        let [_, rows, columns] = parameter.value.dims();
        let own = if matches!(parameter.key, ParameterKey::Factor(_, Side::B)) { ratio as f32 } else { 1.0 };
        std::iter::repeat_n(own, rows * columns)
    };
    let ratios: Vec<f32> = adapters.parameters().iter().flat_map(of).collect();
    let (count, device) = (ratios.len(), adapters.parameters().first()?.value.device().inner());
    Some(Tensor::from_data(TensorData::new(ratios, [1, count]), &device))
}

/// The given rows, in the given order.
pub(super) fn select(values: Tensor<2>, rows: &[usize]) -> Tensor<2> {
    let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows.len()]), &values.device());
    values.select(0, indices)
}

/// One number for each group, `[G, 1]`.
pub(crate) fn column(values: impl Iterator<Item = f64>, device: &Device) -> Tensor<2> {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    let groups = values.len();
    Tensor::from_data(TensorData::new(values, [groups, 1]), device)
}

/// The squared norm of each row, `[G]`.
pub(super) fn squared_norms(values: &Tensor<2>) -> Tensor<1> {
    let [groups, _] = values.dims();
    (values.clone() * values.clone()).sum_dim(1).reshape([groups])
}

fn rows(tensors: Vec<Tensor<3>>) -> Tensor<2> {
    let row = |tensor: Tensor<3>| {
        let [groups, rows, columns] = tensor.dims();
        tensor.reshape([groups, rows * columns])
    };
    Tensor::cat(tensors.into_iter().map(row).collect(), 1)
}
